import { type HeadInputs, inputWidthOf } from './head-inputs.js';

/**
 * The second kind of refinement head, a residual on the class logits like the first: r = Σ_t a_t·s_t + W·x + b. Of scores, x
 * has those of each transform less their mean: the constant that separates logits from log-probabilities cancels.
 */
export interface LinearHead {
  kind: 'linear';
  inputs: HeadInputs;
  /** a, the shares of the transforms' own class logits, [T]. */
  shares: Float32Array;
  /** [T·L, C], one row per input. */
  weight: Float32Array;
  /** [C] */
  bias: Float32Array;
}

/** The head that leaves the image's own logits as they are. */
export function noHead(inputs: HeadInputs, classCount: number): LinearHead {
  const shares = new Float32Array(inputs.transforms);
  shares[0] = 1;
  return {
    kind: 'linear',
    inputs,
    shares,
    weight: new Float32Array(inputs.transforms * inputWidthOf(inputs, classCount) * classCount),
    bias: new Float32Array(classCount),
  };
}
