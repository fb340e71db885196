const LOG2_E: f32 = 1.44269504;
/** ln 2 in two parts, so that multiples of it are subtracted exactly. */
const LN2_HIGH: f32 = 0.693359375;
const LN2_LOW: f32 = -2.12194440e-4;

/**
 * Below this the result is 0: e^-64 is nothing beside the 1 that a softmax has in every row, and its products would soon be
 * subnormal numbers, on which processors are slow.
 */
const LOWEST: f32 = -64;
const HIGHEST: f32 = 88.37626;

/**
 * e^x of four numbers, by the polynomial of the Cephes library (S. L. Moshier, expf): within 2 units in the last place for
 * x in [-64, 88.37]. Smaller x give 0, larger ones the value at 88.37, NaN gives NaN.
 */
@inline
export function exponential(x: v128): v128 {
  const vanishes = f32x4.lt(x, f32x4.splat(LOWEST));
  // pmin and pmax, in this order of arguments, let NaN through.
  const limited = f32x4.pmin(f32x4.pmax(x, f32x4.splat(LOWEST)), f32x4.splat(HIGHEST));
  const power = f32x4.nearest(f32x4.mul(limited, f32x4.splat(LOG2_E)));
  let rest = f32x4.sub(limited, f32x4.mul(power, f32x4.splat(LN2_HIGH)));
  rest = f32x4.sub(rest, f32x4.mul(power, f32x4.splat(LN2_LOW)));
  let sum = f32x4.splat(1.9875691500e-4);
  sum = f32x4.add(f32x4.mul(sum, rest), f32x4.splat(1.3981999507e-3));
  sum = f32x4.add(f32x4.mul(sum, rest), f32x4.splat(8.3334519073e-3));
  sum = f32x4.add(f32x4.mul(sum, rest), f32x4.splat(4.1665795894e-2));
  sum = f32x4.add(f32x4.mul(sum, rest), f32x4.splat(1.6666665459e-1));
  sum = f32x4.add(f32x4.mul(sum, rest), f32x4.splat(5.0000001201e-1));
  sum = f32x4.add(f32x4.add(f32x4.mul(f32x4.mul(rest, rest), sum), rest), f32x4.splat(1));
  const exponent = i32x4.shl(i32x4.add(i32x4.trunc_sat_f32x4_s(power), i32x4.splat(127)), 23);
  return v128.andnot(f32x4.mul(sum, exponent), vanishes);
}

/** e^x for each number of an array, in place, for the tests. */
export function exponentials(values: usize, length: i32): void {
  for (let i = 0; i < length; i += 4) {
    const at = values + (<usize>i << 2);
    v128.store(at, exponential(v128.load(at)));
  }
}
