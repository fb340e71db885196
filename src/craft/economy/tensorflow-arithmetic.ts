import type * as tfjs from '@tensorflow/tfjs-core';
import type { HeadArithmetic, Regression, RegressionProblem } from './arithmetic.js';

/** What is used of TensorFlow.js, on whatever backend it is set to. */
export type TensorFlow = Pick<
  typeof tfjs,
  'tensor1d' | 'tensor2d' | 'tidy' | 'oneHot' | 'add' | 'sub' | 'mul' | 'sum' | 'max' | 'exp' | 'log' | 'div' | 'matMul'
>;

/**
 * On TensorFlow.js, for GPUs: a step goes there as one batch of kernels, and its loss and gradient come back together.
 * @param activate makes the backend the current one, of which TensorFlow.js has one for everybody in a thread
 */
export function tensorflowArithmetic(tf: TensorFlow, activate: () => void = () => {}): HeadArithmetic {
  return {
    regression(problem) {
      activate();
      return new TensorFlowRegression(tf, activate, problem);
    },
  };
}

class TensorFlowRegression implements Regression {
  private readonly width: number;
  private readonly classCount: number;
  private readonly others: number;
  private readonly inputs: tfjs.Tensor2D;
  private readonly otherInputs: tfjs.Tensor2D;
  private readonly offsets: tfjs.Tensor2D;
  private readonly oneHot: tfjs.Tensor2D;
  /** [R, 1] */
  private readonly weights: tfjs.Tensor2D;

  constructor(
    private readonly tf: TensorFlow,
    private readonly activate: () => void,
    { inputs, width, offsets, labels, classCount, weights }: RegressionProblem,
  ) {
    const counted = labels.length;
    this.width = width;
    this.classCount = classCount;
    this.others = inputs.length / width - counted;
    // Copies: a backend may read an array only when it is first used.
    this.inputs = tf.tensor2d(inputs.slice(0, counted * width), [counted, width]);
    this.otherInputs = tf.tensor2d(inputs.slice(counted * width), [this.others, width]);
    this.offsets = tf.tensor2d(offsets.slice(), [counted, classCount]);
    this.weights = tf.tensor2d(weights.slice(), [counted, 1]);
    this.oneHot = tf.tidy(() => {
      return tf.oneHot(tf.tensor1d(labels.slice(), 'int32'), classCount, 1, 0, 'float32') as tfjs.Tensor2D;
    });
  }

  async lossAndGradient(parameters: Float64Array, gradient: Float64Array): Promise<number> {
    const { tf, inputs, offsets, oneHot, weights } = this;
    this.activate();
    const [losses, slope] = tf.tidy(() => {
      const logits = tf.add(offsets, tf.matMul(inputs, this.place(parameters)));
      const shifted = tf.sub(logits, tf.max(logits, 1, true));
      const exponentials = tf.exp(shifted);
      const sums = tf.sum(exponentials, 1, true);
      const own = tf.sum(tf.mul(shifted, oneHot), 1, true);
      const residual = tf.mul(weights, tf.sub(tf.div(exponentials, sums), oneHot));
      return [tf.mul(weights, tf.sub(tf.log(sums), own)), tf.matMul(inputs, residual as tfjs.Tensor2D, true)];
    });
    try {
      const [each, values] = await Promise.all([losses.data(), slope.data()]);
      gradient.set(values);
      // In double precision: steps of a search are told apart by the last digits of the sum.
      let loss = 0;
      for (const value of each) loss += value;
      return loss;
    } finally {
      losses.dispose();
      slope.dispose();
    }
  }

  async residuals(parameters: Float64Array): Promise<Float32Array> {
    if (this.others === 0) return new Float32Array(0);
    const { tf } = this;
    this.activate();
    const result = tf.tidy(() => tf.matMul(this.otherInputs, this.place(parameters)));
    try {
      return (await result.data<'float32'>()).slice();
    } finally {
      result.dispose();
    }
  }

  private place(parameters: Float64Array): tfjs.Tensor2D {
    return this.tf.tensor2d(Float32Array.from(parameters), [this.width, this.classCount]);
  }

  dispose(): void {
    for (const tensor of [this.inputs, this.otherInputs, this.offsets, this.oneHot, this.weights]) tensor.dispose();
  }
}
