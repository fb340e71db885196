import { identityTriangle, multiplyByOwnTranspose, triangleLength } from './kernels.js';
import { bytes } from './wasm/generated/cma.js';
import { instantiate, type KernelExports, Layout } from './wasm/instance.js';

/** Of wasm/cma.as.ts. */
interface CmaKernels {
  multiplyTriangle(factor: number, n: number, vectors: number, count: number, out: number): void;
  rankUpdate(
    matrix: number,
    n: number,
    decay: number,
    rows: number,
    rank: number,
    weights: number,
    weighted: number,
  ): void;
  cholesky(matrix: number, n: number, columns: number, factor: number): number;
}

/**
 * A covariance matrix C [n, n] with a factor A, A·Aᵀ ≈ C, that is refreshed on demand. Both live in the memory of the
 * kernels that work on them, 12·n² bytes with their scratch space, which goes with this object.
 */
export class FactoredCovariance {
  /** C, packed lower triangle, [n(n + 1)/2]. */
  readonly covariance: Float64Array;
  /** A, packed lower triangle, [n(n + 1)/2]. */
  readonly factor: Float64Array;
  private readonly kernels: KernelExports<CmaKernels>;
  /** Columns of a product, a multiple of four. */
  private readonly width: number;
  private readonly vectors: Float64Array;
  private readonly products: Float64Array;
  private readonly rows: Float64Array;
  private readonly weights: Float64Array;
  private readonly weighted: Float64Array;
  private readonly columns: Float64Array;

  /**
   * Starts at the identity.
   * @param n dimension
   * @param count vectors that are multiplied at a time
   */
  constructor(
    private readonly n: number,
    private readonly count: number,
  ) {
    this.kernels = instantiate<CmaKernels>(bytes);
    this.width = Math.ceil(count / 4) * 4;
    const rank = count + 1;
    const triangle = triangleLength(n);
    const lengths = [triangle, triangle, triangle, n * this.width, n * this.width, n * rank, rank, 2 * rank];
    const layout = new Layout(this.kernels.memory);
    const offsets = lengths.map((length) => layout.reserve(length * Float64Array.BYTES_PER_ELEMENT));
    [this.covariance, this.factor, this.columns, this.vectors, this.products, this.rows, this.weights, this.weighted] =
      offsets.map((offset, i) => new Float64Array(this.kernels.memory.buffer, offset, lengths[i]));
    this.covariance.set(identityTriangle(n));
    this.factor.set(this.covariance);
  }

  /**
   * A·v of every vector.
   * @param vectors [count, n]
   * @returns [count, n]
   */
  multiply(vectors: Float64Array): Float64Array {
    const { n, count, width, products } = this;
    for (let p = 0; p < count; p++) for (let i = 0; i < n; i++) this.vectors[i * width + p] = vectors[p * n + i];
    this.kernels.multiplyTriangle(this.factor.byteOffset, n, this.vectors.byteOffset, width, this.products.byteOffset);
    const output = new Float64Array(count * n);
    for (let p = 0; p < count; p++) for (let i = 0; i < n; i++) output[p * n + i] = products[i * width + p];
    return output;
  }

  /**
   * C := decay·C + Σ_k weights[k] · rows[k] · rows[k]ᵀ
   * @param rows count + 1 of length n
   */
  update(decay: number, rows: Float64Array[], weights: Float64Array): void {
    for (const [k, row] of rows.entries()) this.rows.set(row, k * this.n);
    this.weights.set(weights);
    this.kernels.rankUpdate(
      this.covariance.byteOffset,
      this.n,
      decay,
      this.rows.byteOffset,
      rows.length,
      this.weights.byteOffset,
      this.weighted.byteOffset,
    );
  }

  /**
   * Makes A the Cholesky factor of C. Should C have lost positive definiteness to rounding, what it learned since the
   * last refresh is dropped, and the last good factor stays.
   */
  refresh(): void {
    const { covariance, factor, columns, n } = this;
    if (this.kernels.cholesky(covariance.byteOffset, n, columns.byteOffset, factor.byteOffset)) return;
    multiplyByOwnTranspose(factor, n, covariance);
  }
}
