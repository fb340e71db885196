// AssemblyScript: compiled to WebAssembly with SIMD by scripts/generate-kernels.mjs. Pointers are byte offsets in linear
// memory, matrices are row-major.

/**
 * out [imageCount, textCount] float32 := scale · images [imageCount, width] float64 · texts [width, textCount] float64.
 * Every element is summed over `width` in order in float64, so it does not depend on where its row or column stands.
 * @param textCount a multiple of 4
 */
export function cosine(
  images: usize,
  imageCount: i32,
  texts: usize,
  textCount: i32,
  width: i32,
  scale: f64,
  out: usize,
): void {
  const scales = f64x2.splat(scale);
  const imageStride = <usize>width << 3;
  const textStride = <usize>textCount << 3;
  const outStride = <usize>textCount << 2;
  for (let i = 0; i < imageCount; i += 2) {
    const image0 = images + <usize>i * imageStride;
    // Where there is no second image it is the first one again, and nothing of it is stored.
    const paired = i + 1 < imageCount;
    const image1 = paired ? image0 + imageStride : image0;
    for (let j = 0; j < textCount; j += 4) {
      let s00 = f64x2.splat(0);
      let s01 = f64x2.splat(0);
      let s10 = f64x2.splat(0);
      let s11 = f64x2.splat(0);
      let text = texts + (<usize>j << 3);
      for (let k = 0; k < width; k++) {
        const a0 = v128.load64_splat(image0 + (<usize>k << 3));
        const a1 = v128.load64_splat(image1 + (<usize>k << 3));
        const b0 = v128.load(text);
        const b1 = v128.load(text, 16);
        s00 = f64x2.add(s00, f64x2.mul(a0, b0));
        s01 = f64x2.add(s01, f64x2.mul(a0, b1));
        s10 = f64x2.add(s10, f64x2.mul(a1, b0));
        s11 = f64x2.add(s11, f64x2.mul(a1, b1));
        text += textStride;
      }
      const target = out + <usize>i * outStride + (<usize>j << 2);
      v128.store64_lane(target, f32x4.demote_f64x2_zero(f64x2.mul(scales, s00)), 0);
      v128.store64_lane(target, f32x4.demote_f64x2_zero(f64x2.mul(scales, s01)), 0, 8);
      if (paired) {
        v128.store64_lane(target + outStride, f32x4.demote_f64x2_zero(f64x2.mul(scales, s10)), 0);
        v128.store64_lane(target + outStride, f32x4.demote_f64x2_zero(f64x2.mul(scales, s11)), 0, 8);
      }
    }
  }
}
