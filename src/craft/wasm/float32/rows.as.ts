// What is done to one row of a matrix, of any length.

/** Differences between the logits of a row beyond this are treated as this, as in src/craft/losses.ts. */
export const RANGE: f32 = -1e6;

/** The sums of lanes 0 and 2, and of 1 and 3, in double precision. */
@inline
export function widened(x: v128): v128 {
  const high = f64x2.promote_low_f32x4(v128.shuffle<f32>(x, x, 2, 3, 2, 3));
  return f64x2.add(f64x2.promote_low_f32x4(x), high);
}

@inline
export function horizontalSum(x: v128): f64 {
  return f64x2.extract_lane(x, 0) + f64x2.extract_lane(x, 1);
}

/** The first 0 to 3 numbers at an address and, after them, a value in their place. */
@inline
export function loadSome(at: usize, count: i32, otherwise: f32): v128 {
  let x = f32x4.splat(otherwise);
  if (count > 0) x = f32x4.replace_lane(x, 0, load<f32>(at));
  if (count > 1) x = f32x4.replace_lane(x, 1, load<f32>(at, 4));
  if (count > 2) x = f32x4.replace_lane(x, 2, load<f32>(at, 8));
  return x;
}

@inline
export function storeSome(at: usize, count: i32, x: v128): void {
  if (count > 0) store<f32>(at, f32x4.extract_lane(x, 0));
  if (count > 1) store<f32>(at, f32x4.extract_lane(x, 1), 4);
  if (count > 2) store<f32>(at, f32x4.extract_lane(x, 2), 8);
}

/** The largest of a row; a NaN in it need not show. */
export function maximum(row: usize, count: i32): f32 {
  let most = f32x4.splat(-Infinity);
  const whole = count & ~3;
  for (let c = 0; c < whole; c += 4) most = f32x4.pmax(most, v128.load(row + (<usize>c << 2)));
  most = f32x4.pmax(most, loadSome(row + (<usize>whole << 2), count - whole, -Infinity));
  const left = max(f32x4.extract_lane(most, 0), f32x4.extract_lane(most, 1));
  return max(left, max(f32x4.extract_lane(most, 2), f32x4.extract_lane(most, 3)));
}

@inline
export function shifted(x: v128, most: v128): v128 {
  return f32x4.pmax(f32x4.sub(x, most), f32x4.splat(RANGE));
}

export function scaleRow(row: usize, count: i32, factor: f32): void {
  const by = f32x4.splat(factor);
  const whole = count & ~3;
  for (let c = 0; c < whole; c += 4) {
    const at = row + (<usize>c << 2);
    v128.store(at, f32x4.mul(v128.load(at), by));
  }
  for (let c = whole; c < count; c++) {
    const at = row + (<usize>c << 2);
    store<f32>(at, load<f32>(at) * factor);
  }
}

export function addRow(row: usize, other: usize, count: i32): void {
  const whole = count & ~3;
  for (let c = 0; c < whole; c += 4) {
    const at = <usize>c << 2;
    v128.store(row + at, f32x4.add(v128.load(row + at), v128.load(other + at)));
  }
  for (let c = whole; c < count; c++) {
    const at = <usize>c << 2;
    store<f32>(row + at, load<f32>(row + at) + load<f32>(other + at));
  }
}
