import { exponential } from './exponential.as';
import {
  addRow,
  horizontalSum,
  loadSome,
  maximum,
  RANGE,
  scaleRow,
  shifted,
  storeSome,
  widened,
} from './rows.as';

/** Replaces a row by exp(row - most) and returns the sum. */
function exponentialsOf(row: usize, count: i32, most: f32): f64 {
  const maxima = f32x4.splat(most);
  let sums = f64x2.splat(0);
  const whole = count & ~3;
  for (let c = 0; c < whole; c += 4) {
    const at = row + (<usize>c << 2);
    const e = exponential(shifted(v128.load(at), maxima));
    v128.store(at, e);
    sums = f64x2.add(sums, widened(e));
  }
  if (whole < count) {
    const at = row + (<usize>whole << 2);
    const e = exponential(shifted(loadSome(at, count - whole, -Infinity), maxima));
    storeSome(at, count - whole, e);
    sums = f64x2.add(sums, widened(e));
  }
  return horizontalSum(sums);
}

/**
 * Replaces each row of logits by weights[i] · (softmax(logits + offset) - one-hot label).
 * @param logits [rows, C]
 * @param offset [rows, C], or 0 for none
 * @param labels [rows], int32
 * @param weights [rows], or 0 for ones
 * @returns Σ_i weights[i] · CE(softmax(logits_i + offset_i), labels_i)
 */
export function softmaxCrossEntropyGradient(
  logits: usize,
  offset: usize,
  labels: usize,
  weights: usize,
  rows: i32,
  classCount: i32,
): f64 {
  let loss: f64 = 0;
  const rowBytes = <usize>classCount << 2;
  for (let i = 0; i < rows; i++) {
    const weight: f32 = weights == 0 ? 1 : load<f32>(weights + (<usize>i << 2));
    if (offset != 0) addRow(logits, offset + <usize>i * rowBytes, classCount);
    const label = logits + (<usize>load<i32>(labels + (<usize>i << 2)) << 2);
    const most = maximum(logits, classCount);
    const own: f32 = load<f32>(label) - most;
    const difference: f32 = own < RANGE ? RANGE : own;
    const sum = exponentialsOf(logits, classCount, most);
    if (weight != 0) loss += <f64>weight * (Math.log(sum) - <f64>difference);
    scaleRow(logits, classCount, <f32>(<f64>weight / sum));
    store<f32>(label, load<f32>(label) - weight);
    logits += rowBytes;
  }
  return loss;
}

/**
 * The loss of the refinement head and its gradient: the mean of CE(softmax(r), y) + w · KL(softmax(s) ‖ softmax(r)).
 * @param refined r, [rows, C]; replaced by ((1 + w) · softmax(r) - w · softmax(s) - one-hot label) / rows
 * @param blackBox s, [rows, C]
 * @param labels [rows], int32
 * @param row [C] numbers of scratch
 * @returns the loss; what is summed is summed in double precision
 */
export function headLossGradient(
  refined: usize,
  blackBox: usize,
  labels: usize,
  rows: i32,
  classCount: i32,
  consistencyWeight: f64,
  row: usize,
): f64 {
  let loss: f64 = 0;
  const rowBytes = <usize>classCount << 2;
  const share = 1 / <f64>rows;
  for (let i = 0; i < rows; i++) {
    const label = refined + (<usize>load<i32>(labels + (<usize>i << 2)) << 2);
    const most = maximum(refined, classCount);
    const own: f32 = load<f32>(label) - most;
    const difference: f32 = own < RANGE ? RANGE : own;
    if (consistencyWeight == 0) {
      const sum = exponentialsOf(refined, classCount, most);
      loss += Math.log(sum) - <f64>difference;
      scaleRow(refined, classCount, <f32>(share / sum));
    } else {
      const mostOther = maximum(blackBox, classCount);
      exponentialsOfBoth(refined, most, blackBox, mostOther, classCount, row);
      const logSum = Math.log(bothSum);
      loss += logSum - <f64>difference;
      loss += consistencyWeight * (bothWeighted / bothOtherSum - Math.log(bothOtherSum) + logSum);
      const pull = <f32>((share * (1 + consistencyWeight)) / bothSum);
      combineRows(refined, pull, row, <f32>((share * consistencyWeight) / bothOtherSum), classCount);
    }
    store<f32>(label, load<f32>(label) - <f32>share);
    refined += rowBytes;
    blackBox += rowBytes;
  }
  return loss * share;
}

/**
 * The fitness of a prompt: the sum over the rows of CE(softmax(s), y) + w · KL(softmax(r) ‖ softmax(s)), in double precision.
 * @param blackBox s, [rows, C]
 * @param refined r, [rows, C]; not read where w = 0
 * @param labels [rows], int32
 */
export function promptLoss(
  blackBox: usize,
  refined: usize,
  labels: usize,
  rows: i32,
  classCount: i32,
  consistencyWeight: f64,
): f64 {
  let loss: f64 = 0;
  for (let i = 0; i < rows; i++) {
    const start = (<usize>i * <usize>classCount) << 2;
    const row = blackBox + start;
    const other = consistencyWeight == 0 ? row : refined + start;
    const most = maximum(row, classCount);
    exponentialsOfBoth(row, most, other, maximum(other, classCount), classCount, 0);
    const own: f32 = load<f32>(row + (<usize>load<i32>(labels + (<usize>i << 2)) << 2)) - most;
    const logSum = Math.log(bothSum);
    loss += logSum - <f64>(own < RANGE ? RANGE : own);
    if (consistencyWeight != 0) {
      loss += consistencyWeight * (bothWeighted / bothOtherSum - Math.log(bothOtherSum) + logSum);
    }
  }
  return loss;
}

/** Results of {@link exponentialsOfBoth}. */
let bothSum: f64 = 0;
let bothOtherSum: f64 = 0;
let bothWeighted: f64 = 0;

/**
 * Leaves the sums of the exponentials of both rows, and the sum of those of `other` times the differences of the shifted
 * logits, in the variables above. Replaces `row` by its exponentials and writes those of `other` to `otherExponentials`, unless
 * that is 0.
 */
function exponentialsOfBoth(
  row: usize,
  most: f32,
  other: usize,
  mostOther: f32,
  count: i32,
  otherExponentials: usize,
): void {
  const maxima = f32x4.splat(most);
  const otherMaxima = f32x4.splat(mostOther);
  let sums = f64x2.splat(0);
  let otherSums = f64x2.splat(0);
  let weighted = f64x2.splat(0);
  for (let c = 0; c < count; c += 4) {
    const at = <usize>c << 2;
    const left = count - c;
    const whole = left >= 4;
    const x = shifted(whole ? v128.load(row + at) : loadSome(row + at, left, -Infinity), maxima);
    const y = shifted(whole ? v128.load(other + at) : loadSome(other + at, left, -Infinity), otherMaxima);
    const e = exponential(x);
    const f = exponential(y);
    sums = f64x2.add(sums, widened(e));
    otherSums = f64x2.add(otherSums, widened(f));
    weighted = f64x2.add(weighted, widened(f32x4.mul(f, f32x4.sub(y, x))));
    if (otherExponentials == 0) continue;
    if (whole) {
      v128.store(row + at, e);
      v128.store(otherExponentials + at, f);
    } else {
      storeSome(row + at, left, e);
      storeSome(otherExponentials + at, left, f);
    }
  }
  bothSum = horizontalSum(sums);
  bothOtherSum = horizontalSum(otherSums);
  bothWeighted = horizontalSum(weighted);
}

/** row = factor · row - otherFactor · other */
function combineRows(row: usize, factor: f32, other: usize, otherFactor: f32, count: i32): void {
  const by = f32x4.splat(factor);
  const otherBy = f32x4.splat(otherFactor);
  const whole = count & ~3;
  for (let c = 0; c < whole; c += 4) {
    const at = <usize>c << 2;
    const x = f32x4.mul(v128.load(row + at), by);
    v128.store(row + at, f32x4.sub(x, f32x4.mul(v128.load(other + at), otherBy)));
  }
  for (let c = whole; c < count; c++) {
    const at = <usize>c << 2;
    store<f32>(row + at, load<f32>(row + at) * factor - load<f32>(other + at) * otherFactor);
  }
}
