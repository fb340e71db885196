import { affineRows } from './kernels.js';
import { Random } from './random.js';

/**
 * Maps points of the search space to soft context tokens: p = p0 + reshape(A·z, [m, d]) (section 3.1 of the paper).
 *
 * A has independent entries from N(0, projectionStd²). It follows from the seed alone and is never stored. The product
 * is summed in double precision in plain JavaScript, so that a job that moves to a machine with another TensorFlow.js
 * backend still asks for exactly the same prompts.
 */
export class PromptGenerator {
  private readonly projection: Float32Array;

  /**
   * @param initialContext p0, [m·d]
   * @param intrinsicDimension n
   */
  constructor(
    private readonly initialContext: Float32Array,
    private readonly intrinsicDimension: number,
    projectionStd: number,
    seed: number,
  ) {
    const entries = new Float32Array(initialContext.length * intrinsicDimension);
    this.projection = Random.stream(seed, 'projection').fillNormal(entries, projectionStd);
  }

  /**
   * @param points [count, n]
   * @returns [count, m·d]
   */
  generate(points: Float64Array): Float32Array {
    const count = points.length / this.intrinsicDimension;
    if (!Number.isInteger(count)) {
      throw new RangeError(
        `${points.length} coordinates are not whole points of dimension ${this.intrinsicDimension}.`,
      );
    }
    const prompts = new Float32Array(count * this.initialContext.length);
    affineRows(this.projection, this.intrinsicDimension, this.initialContext, points, count, prompts);
    return prompts;
  }
}
