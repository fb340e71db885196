import { Random } from './random.js';
import { bytes } from './wasm/generated/affine.js';
import { instantiate, type KernelExports, Layout } from './wasm/instance.js';

/** Of wasm/affine.as.ts. */
interface AffineKernels {
  affine(
    matrix: number,
    rows: number,
    inner: number,
    offset: number,
    vectors: number,
    count: number,
    out: number,
  ): void;
}

/** Points of one run of the kernel, which bounds its memory. */
const LARGEST_RUN = 64;

/**
 * Maps points of the search space to soft context tokens: p = p0 + reshape(A·z, [m, d]) (section 3.1 of the paper).
 *
 * A has independent entries from N(0, projectionStd²). It follows from the seed alone and is never stored. The product
 * is summed in double precision and in order, the same on every machine, so that a job that moves to another one still
 * asks for exactly the same prompts.
 */
export class PromptGenerator {
  private readonly kernels: KernelExports<AffineKernels>;
  private readonly projection: Float32Array;
  private readonly offset: Float32Array;
  private readonly points: Float64Array;
  private readonly products: Float32Array;

  /**
   * @param initialContext p0, [m·d]
   * @param intrinsicDimension n
   */
  constructor(
    initialContext: Float32Array,
    private readonly intrinsicDimension: number,
    projectionStd: number,
    seed: number,
  ) {
    const rows = initialContext.length;
    this.kernels = instantiate<AffineKernels>(bytes);
    const layout = new Layout(this.kernels.memory);
    const projection = layout.reserve(4 * rows * intrinsicDimension);
    const offset = layout.reserve(4 * rows);
    const points = layout.reserve(8 * intrinsicDimension * LARGEST_RUN);
    const products = layout.reserve(4 * rows * LARGEST_RUN);
    const { buffer } = this.kernels.memory;
    this.projection = new Float32Array(buffer, projection, rows * intrinsicDimension);
    this.offset = new Float32Array(buffer, offset, rows);
    this.points = new Float64Array(buffer, points, intrinsicDimension * LARGEST_RUN);
    this.products = new Float32Array(buffer, products, rows * LARGEST_RUN);
    this.offset.set(initialContext);
    Random.stream(seed, 'projection').fillNormal(this.projection, projectionStd);
  }

  /**
   * @param points [count, n]
   * @returns [count, m·d]
   */
  generate(points: Float64Array): Float32Array {
    const { intrinsicDimension: n, offset } = this;
    const count = points.length / n;
    if (!Number.isInteger(count)) {
      throw new RangeError(`${points.length} coordinates are not whole points of dimension ${n}.`);
    }
    const prompts = new Float32Array(count * offset.length);
    for (let start = 0; start < count; start += LARGEST_RUN) {
      const some = Math.min(LARGEST_RUN, count - start);
      this.run(points.subarray(start * n, (start + some) * n), some, prompts.subarray(start * offset.length));
    }
    return prompts;
  }

  /** @param prompts receives [count, m·d] */
  private run(points: Float64Array, count: number, prompts: Float32Array): void {
    const { intrinsicDimension: n, projection, offset, products } = this;
    const width = count + (count & 1);
    const rows = offset.length;
    for (let p = 0; p < count; p++) for (let k = 0; k < n; k++) this.points[k * width + p] = points[p * n + k];
    this.kernels.affine(
      projection.byteOffset,
      rows,
      n,
      offset.byteOffset,
      this.points.byteOffset,
      width,
      products.byteOffset,
    );
    for (let p = 0; p < count; p++) for (let i = 0; i < rows; i++) prompts[p * rows + i] = products[i * width + p];
  }
}
