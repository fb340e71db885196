import { dotProduct } from './dot.js';

/** What is added to the diagonal, a share of 1: equal rows are no singular matrix then. */
const JITTER = 1e-6;

/**
 * Of a symmetric matrix with no negative eigenvalues and ones on the diagonal, F·Fᵀ. Our own, on flat arrays: with ml-matrix it
 * took as long as all that is fitted with it.
 */
export class CholeskyFactor {
  /** F, lower triangular, [M, M] */
  private readonly factor: Float64Array;

  /** @param matrix [M, M]; what is above its diagonal is not read */
  constructor(
    matrix: Float64Array,
    private readonly size: number,
  ) {
    const factor = new Float64Array(size * size);
    for (let i = 0; i < size; i++) {
      const row = i * size;
      for (let j = 0; j < i; j++) {
        const other = j * size;
        factor[row + j] = (matrix[row + j] - dotProduct(factor, row, factor, other, j)) / factor[other + j];
      }
      const rest = matrix[row + i] + JITTER - dotProduct(factor, row, factor, row, i);
      factor[row + i] = Math.sqrt(Math.max(JITTER, rest));
    }
    this.factor = factor;
  }

  /** A row of F, [M]. */
  row(index: number): Float64Array {
    return this.factor.subarray(index * this.size, (index + 1) * this.size);
  }

  /** F⁻¹·v in place of v, [M]. */
  forward(vector: Float64Array): void {
    const { factor, size } = this;
    for (let i = 0, at = 0; i < size; i++, at += size) {
      vector[i] = (vector[i] - dotProduct(factor, at, vector, 0, i)) / factor[at + i];
    }
  }

  /** F⁻ᵀ·V in place of V, [M, columns]. */
  backward(values: Float64Array, columns: number): void {
    const { factor, size } = this;
    for (let i = size - 1; i >= 0; i--) {
      const row = i * columns;
      for (let c = 0; c < columns; c++) values[row + c] /= factor[i * size + i];
      for (let k = 0; k < i; k++) {
        const share = factor[i * size + k];
        for (let c = 0; c < columns; c++) values[k * columns + c] -= share * values[row + c];
      }
    }
  }
}
