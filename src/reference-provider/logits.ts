/**
 * Cosine logits of every image against every class text: `out[i, j] = scale · Σ_k images[i, k] · texts[j, k]`.
 *
 * Both sides are L2-normalised rows of `width` numbers. `out` is [imageCount, textCount], row-major. Every element is
 * summed in the same order in double precision, so it does not depend on where its row or column stands; the block of
 * 4 × 2 results only keeps the operands in registers.
 */
export function cosineLogits(
  images: Float32Array,
  imageCount: number,
  texts: Float32Array,
  textCount: number,
  width: number,
  scale: number,
  out: Float32Array,
): void {
  let i = 0;
  for (; i + 4 <= imageCount; i += 4) {
    const a0 = i * width;
    const a1 = a0 + width;
    const a2 = a1 + width;
    const a3 = a2 + width;
    let j = 0;
    for (; j + 2 <= textCount; j += 2) {
      const b0 = j * width;
      const b1 = b0 + width;
      let s00 = 0;
      let s01 = 0;
      let s10 = 0;
      let s11 = 0;
      let s20 = 0;
      let s21 = 0;
      let s30 = 0;
      let s31 = 0;
      for (let k = 0; k < width; k++) {
        const x0 = images[a0 + k];
        const x1 = images[a1 + k];
        const x2 = images[a2 + k];
        const x3 = images[a3 + k];
        const y0 = texts[b0 + k];
        const y1 = texts[b1 + k];
        s00 += x0 * y0;
        s10 += x1 * y0;
        s20 += x2 * y0;
        s30 += x3 * y0;
        s01 += x0 * y1;
        s11 += x1 * y1;
        s21 += x2 * y1;
        s31 += x3 * y1;
      }
      let q = i * textCount + j;
      out[q] = scale * s00;
      out[q + 1] = scale * s01;
      q += textCount;
      out[q] = scale * s10;
      out[q + 1] = scale * s11;
      q += textCount;
      out[q] = scale * s20;
      out[q + 1] = scale * s21;
      q += textCount;
      out[q] = scale * s30;
      out[q + 1] = scale * s31;
    }
    if (j < textCount) {
      for (let r = i; r < i + 4; r++) {
        out[r * textCount + j] = scale * dot(images, r * width, texts, j * width, width);
      }
    }
  }
  for (; i < imageCount; i++) {
    for (let j = 0; j < textCount; j++) {
      out[i * textCount + j] = scale * dot(images, i * width, texts, j * width, width);
    }
  }
}

/** Scales each row of `width` numbers to length 1, in place. A row of zeros stays as it is. */
export function normaliseRows(rows: Float32Array, width: number): void {
  for (let start = 0; start < rows.length; start += width) {
    let squares = 0;
    for (let k = start; k < start + width; k++) squares += rows[k] * rows[k];
    if (squares === 0) continue;
    const factor = 1 / Math.sqrt(squares);
    for (let k = start; k < start + width; k++) rows[k] *= factor;
  }
}

function dot(a: Float32Array, offsetA: number, b: Float32Array, offsetB: number, width: number): number {
  let sum = 0;
  for (let k = 0; k < width; k++) sum += a[offsetA + k] * b[offsetB + k];
  return sum;
}
