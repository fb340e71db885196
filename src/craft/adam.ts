import { copyHead, HEAD_PARAMETERS, type HeadWeights, zeroHead } from './head-weights.js';

export interface AdamOptions {
  learningRate: number;
  beta1: number;
  beta2: number;
  epsilon: number;
}

/** First and second moments, shaped like the weights, and the number of steps taken. */
export interface AdamState {
  first: HeadWeights;
  second: HeadWeights;
  step: number;
}

/** Before the first step: both moments are zero, of the shapes of the head. */
export function initialAdamState(classCount: number, hiddenWidth: number): AdamState {
  return { first: zeroHead(classCount, hiddenWidth), second: zeroHead(classCount, hiddenWidth), step: 0 };
}

/** With arrays of its own. */
export function copyAdamState(state: AdamState): AdamState {
  return { first: copyHead(state.first), second: copyHead(state.second), step: state.step };
}

/**
 * One step of Adam (Kingma and Ba, arXiv 1412.6980, algorithm 1), changing `weights` and `state` in place. TensorFlow.js
 * keeps the products β^t of its own Adam in single precision and does not give them back exactly, so a resumed run would
 * differ; here they follow from the step count.
 */
export function adamStep(weights: HeadWeights, gradients: HeadWeights, state: AdamState, options: AdamOptions): void {
  const { learningRate, beta1, beta2, epsilon } = options;
  state.step++;
  const stepSize = learningRate / (1 - beta1 ** state.step);
  const secondCorrection = Math.sqrt(1 - beta2 ** state.step);
  for (const parameter of HEAD_PARAMETERS) {
    const weight = weights[parameter];
    const gradient = gradients[parameter];
    const first = state.first[parameter];
    const second = state.second[parameter];
    for (let i = 0; i < weight.length; i++) {
      const g = gradient[i];
      const m = beta1 * first[i] + (1 - beta1) * g;
      const v = beta2 * second[i] + (1 - beta2) * g * g;
      first[i] = m;
      second[i] = v;
      weight[i] -= (stepSize * m) / (Math.sqrt(v) / secondCorrection + epsilon);
    }
  }
}
