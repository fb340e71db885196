import { dotProduct } from './dot.js';

/**
 * Points with which others are compared by the rational quadratic kernel with exponent 1, k(x, y) = 1 / (1 + |x − y|²): near
 * ones tell much, and those far away are not forgotten (Rasmussen and Williams, Gaussian processes for machine learning,
 * section 4.2.1). It needs no exponential, so that all machines compute the same bits.
 */
export class Landmarks {
  /** M */
  readonly count: number;
  private readonly squares: Float64Array;

  /** @param points [M, K] */
  constructor(
    private readonly points: Float64Array,
    private readonly width: number,
    count: number,
  ) {
    this.count = count;
    this.squares = Float64Array.from({ length: count }, (_, m) =>
      dotProduct(points, m * width, points, m * width, width),
    );
  }

  /** One of the points, [K]. */
  point(index: number): Float64Array {
    return this.points.subarray(index * this.width, (index + 1) * this.width);
  }

  /**
   * Adds share·k(point, landmark) of each landmark, or of the first so many.
   * @param point [K]
   * @param into [M]
   */
  compare(point: Float64Array, share: number, into: Float64Array, count = this.count): void {
    const { points, width, squares } = this;
    const square = dotProduct(point, 0, point, 0, width);
    for (let m = 0; m < count; m++) {
      const product = dotProduct(point, 0, points, m * width, width);
      into[m] += share / (1 + Math.max(0, square + squares[m] - 2 * product));
    }
  }
}
