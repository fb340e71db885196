/**
 * What is closer to zero than this counts as zero. Beside an epsilon of 1e-8 it is nothing, and what is computed with it would
 * be subnormal numbers, on which processors are a hundred times slower: squares of the gradients of classes that an image is
 * certainly not of, and moments of hidden units that never fire, which decay until, multiplied by 0.9, the least number stays
 * what it is for ever.
 */
const LEAST_GRADIENT: f32 = 1e-17;
const LEAST_FIRST: f32 = 1e-30;
const LEAST_SECOND: f32 = 1e-34;

/** NaN is not close to zero. */
@inline
function above(x: v128, least: f32): v128 {
  return v128.andnot(x, f32x4.lt(f32x4.abs(x), f32x4.splat(least)));
}

/**
 * One step of Adam on arrays whose length is a multiple of 4, as src/craft/adam.ts takes it, in single precision.
 * @param stepSize the learning rate, corrected for the bias of the first moment
 * @param secondCorrection 1 / √(1 - β₂^t)
 */
export function adam(
  weights: usize,
  gradients: usize,
  first: usize,
  second: usize,
  length: i32,
  beta1: f64,
  beta2: f64,
  stepSize: f64,
  secondCorrection: f64,
  epsilon: f64,
): void {
  const keep1 = f32x4.splat(<f32>beta1);
  const take1 = f32x4.splat(<f32>(1 - beta1));
  const keep2 = f32x4.splat(<f32>beta2);
  const take2 = f32x4.splat(<f32>(1 - beta2));
  const size = f32x4.splat(<f32>stepSize);
  const correction = f32x4.splat(<f32>secondCorrection);
  const least = f32x4.splat(<f32>epsilon);
  for (let i = 0; i < length; i += 4) {
    const at = <usize>i << 2;
    const g = v128.load(gradients + at);
    const m = above(f32x4.add(f32x4.mul(keep1, v128.load(first + at)), f32x4.mul(take1, g)), LEAST_FIRST);
    const s = above(g, LEAST_GRADIENT);
    const v = above(f32x4.add(f32x4.mul(keep2, v128.load(second + at)), f32x4.mul(take2, f32x4.mul(s, s))), LEAST_SECOND);
    v128.store(first + at, m);
    v128.store(second + at, v);
    const divisor = f32x4.add(f32x4.mul(f32x4.sqrt(v), correction), least);
    v128.store(weights + at, f32x4.sub(v128.load(weights + at), f32x4.div(f32x4.mul(size, m), divisor)));
  }
}
