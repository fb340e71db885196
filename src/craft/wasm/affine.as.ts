// AssemblyScript: compiled to WebAssembly with SIMD by scripts/generate-kernels.mjs. Pointers are byte offsets in linear
// memory, matrices are row-major.

@inline
function at(base: usize, index: i32): usize {
  return base + (<usize>index << 3);
}

/**
 * out [rows, count] := offset [rows] + matrix [rows, inner] · vectors [inner, count], summed in float64.
 * @param matrix float32
 * @param offset float32
 * @param count even
 * @param out float32
 */
export function affine(
  matrix: usize,
  rows: i32,
  inner: i32,
  offset: usize,
  vectors: usize,
  count: i32,
  out: usize,
): void {
  const stride = <usize>count << 3;
  const outStride = <usize>count << 2;
  for (let i = 0; i < rows; i++) {
    const row = matrix + ((<usize>i * <usize>inner) << 2);
    const start = f64x2.splat(<f64>load<f32>(offset + (<usize>i << 2)));
    let target = out + <usize>i * outStride;
    let p = 0;
    for (; p + 8 <= count; p += 8) {
      let s0 = start;
      let s1 = start;
      let s2 = start;
      let s3 = start;
      let column = at(vectors, p);
      for (let k = 0; k < inner; k++) {
        const a = f64x2.splat(<f64>load<f32>(row + (<usize>k << 2)));
        s0 = f64x2.add(s0, f64x2.mul(a, v128.load(column)));
        s1 = f64x2.add(s1, f64x2.mul(a, v128.load(column, 16)));
        s2 = f64x2.add(s2, f64x2.mul(a, v128.load(column, 32)));
        s3 = f64x2.add(s3, f64x2.mul(a, v128.load(column, 48)));
        column += stride;
      }
      v128.store64_lane(target, f32x4.demote_f64x2_zero(s0), 0);
      v128.store64_lane(target, f32x4.demote_f64x2_zero(s1), 0, 8);
      v128.store64_lane(target, f32x4.demote_f64x2_zero(s2), 0, 16);
      v128.store64_lane(target, f32x4.demote_f64x2_zero(s3), 0, 24);
      target += 32;
    }
    for (; p < count; p += 2) {
      let sum = start;
      let column = at(vectors, p);
      for (let k = 0; k < inner; k++) {
        sum = f64x2.add(sum, f64x2.mul(f64x2.splat(<f64>load<f32>(row + (<usize>k << 2))), v128.load(column)));
        column += stride;
      }
      v128.store64_lane(target, f32x4.demote_f64x2_zero(sum), 0);
      target += 8;
    }
  }
}
