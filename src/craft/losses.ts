/**
 * The losses of the two modules (section 3.3 of the paper), in double precision and safe for any finite logits. A logit
 * of -Infinity (a class that a provider gives probability 0) counts as {@link LOGIT_RANGE} below the row's largest, so
 * every loss stays finite.
 */

/** Differences between the logits of a row beyond this are treated as this. */
export const LOGIT_RANGE = 1e6;

function rowMaximum(logits: ArrayLike<number>, start: number, classCount: number): number {
  let maximum = Number.NEGATIVE_INFINITY;
  for (let c = 0; c < classCount; c++) {
    const value = logits[start + c];
    if (value > maximum) maximum = value;
  }
  return maximum;
}

/** One row of logits, taken apart: log softmax is `shifted` - `logSum`, softmax is exp(`shifted`) / exp(`logSum`). */
class SoftmaxRow {
  readonly shifted: Float64Array;
  readonly exponentials: Float64Array;
  sum = 0;
  logSum = 0;

  constructor(readonly classCount: number) {
    this.shifted = new Float64Array(classCount);
    this.exponentials = new Float64Array(classCount);
  }

  /** @param start index of the row's first logit */
  load(logits: ArrayLike<number>, start: number): void {
    const maximum = rowMaximum(logits, start, this.classCount);
    if (maximum === Number.NEGATIVE_INFINITY) {
      this.loadUniform();
      return;
    }
    let sum = 0;
    for (let c = 0; c < this.classCount; c++) {
      const difference = logits[start + c] - maximum;
      const limited = difference < -LOGIT_RANGE ? -LOGIT_RANGE : difference;
      const exponential = Math.exp(limited);
      this.shifted[c] = limited;
      this.exponentials[c] = exponential;
      sum += exponential;
    }
    this.sum = sum;
    this.logSum = Math.log(sum);
  }

  /** A row of -Infinity only prefers no class. */
  private loadUniform(): void {
    this.shifted.fill(0);
    this.exponentials.fill(1);
    this.sum = this.classCount;
    this.logSum = Math.log(this.sum);
  }

  /** KL(softmax(this) ‖ softmax(other)) */
  divergenceFrom(other: SoftmaxRow): number {
    let weighted = 0;
    for (let c = 0; c < this.classCount; c++) {
      weighted += this.exponentials[c] * (this.shifted[c] - other.shifted[c]);
    }
    return weighted / this.sum - this.logSum + other.logSum;
  }
}

/**
 * Softmax of each row.
 * @param logits [rows, C]
 * @returns [rows, C]
 */
export function softmax(logits: ArrayLike<number>, classCount: number): Float32Array {
  const probabilities = new Float32Array(logits.length);
  const row = new SoftmaxRow(classCount);
  for (let start = 0; start < logits.length; start += classCount) {
    row.load(logits, start);
    for (let c = 0; c < classCount; c++) probabilities[start + c] = row.exponentials[c] / row.sum;
  }
  return probabilities;
}

/**
 * Mean of CE(softmax(logits), label) over the rows.
 * @param logits [rows, C]
 * @param labels [rows]
 */
export function crossEntropy(logits: ArrayLike<number>, labels: Int32Array, classCount: number): number {
  return consistentLoss(logits, logits, labels, classCount, 0);
}

/**
 * Mean over rows of CE(softmax(judged), label) + w · KL(softmax(towards) ‖ softmax(judged)). Both losses of the method
 * have this form, with the roles of the black box and of the refinement exchanged.
 * @param judged [rows, C]
 * @param towards [rows, C] logits of the other module
 * @param labels [rows]
 * @param weight w
 */
function consistentLoss(
  judged: ArrayLike<number>,
  towards: ArrayLike<number>,
  labels: Int32Array,
  classCount: number,
  weight: number,
): number {
  const own = new SoftmaxRow(classCount);
  const other = new SoftmaxRow(classCount);
  let sum = 0;
  for (let i = 0; i < labels.length; i++) {
    const start = i * classCount;
    own.load(judged, start);
    sum += own.logSum - own.shifted[labels[i]];
    if (weight === 0) continue;
    other.load(towards, start);
    sum += weight * other.divergenceFrom(own);
  }
  return sum / labels.length;
}

/** The fitness of a prompt: the mean of CE(softmax(s), y) + w · KL(softmax(r) ‖ softmax(s)). Smaller is better. */
export function promptLoss(
  blackBox: ArrayLike<number>,
  refined: ArrayLike<number>,
  labels: Int32Array,
  classCount: number,
  weight: number,
): number {
  return consistentLoss(blackBox, refined, labels, classCount, weight);
}

/** The loss of the refinement head: the mean of CE(softmax(r), y) + w · KL(softmax(s) ‖ softmax(r)). */
export function headLoss(
  blackBox: ArrayLike<number>,
  refined: ArrayLike<number>,
  labels: Int32Array,
  classCount: number,
  weight: number,
): number {
  return consistentLoss(refined, blackBox, labels, classCount, weight);
}

/**
 * One-hot labels plus w · softmax(s), [rows, C]. With it the gradient of the head loss by the refined logits is
 * ((1 + w) · softmax(r) - target) / rows, since softmax(s) does not depend on the head.
 */
export function headLossTarget(
  blackBox: ArrayLike<number>,
  labels: Int32Array,
  classCount: number,
  weight: number,
): Float32Array {
  const target = weight === 0 ? new Float32Array(blackBox.length) : softmax(blackBox, classCount);
  for (let i = 0; i < target.length; i++) target[i] *= weight;
  for (let i = 0; i < labels.length; i++) target[i * classCount + labels[i]] += 1;
  return target;
}
