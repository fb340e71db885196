/** The arithmetic of the head, on whatever computes it. Matrices are row-major, in single precision. */
export interface HeadArithmetic {
  /** Takes a regression to where it is computed. Its arrays are not kept. */
  regression(problem: RegressionProblem): Regression;
}

/** R rows that count, and after them H rows that are only told their residuals. */
export interface RegressionProblem {
  /** [R + H, K] */
  inputs: Float32Array;
  /** K */
  width: number;
  /** Class logits that the regression is a residual on, [R, C]. */
  offsets: Float32Array;
  /** [R] */
  labels: Int32Array;
  classCount: number;
  /** How much each row counts, [R]. */
  weights: Float32Array;
}

export interface Regression {
  /**
   * Weighted sum of the cross-entropies of softmax(offsets + inputs·parameters) over the rows that count, and its gradient.
   * @param parameters [K, C]
   * @param gradient is written, [K, C]
   */
  lossAndGradient(parameters: Float64Array, gradient: Float64Array): number | Promise<number>;
  /** inputs·parameters of the other rows, [H, C] */
  residuals(parameters: Float64Array): Float32Array | Promise<Float32Array>;
  dispose(): void;
}
