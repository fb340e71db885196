import type { Tensor, Tensor1D, Tensor2D } from '@tensorflow/tfjs-core';
import type { TensorFlowCompute } from './compute.js';
import { HEAD_PARAMETERS, type HeadWeights, mapHead } from './head-weights.js';
import { read, TensorFlowHead } from './tensorflow-head.js';

/**
 * The refinement head on a GPU. Losses are taken there too, in single precision: of a batch only its loss and the gradients
 * come back, and of a prompt only its fitness, where the logits would take longer to move than to compute with.
 */
export class GpuHead extends TensorFlowHead {
  override async promptLoss(logits: Float32Array, labels: Int32Array, consistencyWeight: number): Promise<number> {
    const { tf } = this.compute;
    const chunk = this.chunkRows();
    let sum = 0;
    for (let row = 0; row < labels.length; row += chunk) {
      const part = labels.subarray(row, row + chunk);
      const rows = logits.subarray(row * this.classCount, (row + part.length) * this.classCount);
      this.compute.activate();
      const loss = tf.tidy(() => {
        const scores = tf.tensor2d(rows, [part.length, this.classCount]);
        const own = tf.logSoftmax(scores);
        const certain = tf.sum(tf.mul(oneHot(this.compute, part, this.classCount), own));
        if (consistencyWeight === 0) return tf.neg(certain);
        const refined = tf.logSoftmax(this.layers(scores).refined);
        return tf.sub(tf.mul(divergence(this.compute, refined, own), consistencyWeight), certain);
      });
      sum += (await read(loss))[0];
    }
    return sum / labels.length;
  }

  override async gradients(
    logits: Float32Array,
    labels: Int32Array,
    consistencyWeight: number,
  ): Promise<{ gradients: HeadWeights; loss: number }> {
    const { tf } = this.compute;
    const rows = labels.length;
    this.compute.activate();
    const tensors = tf.tidy(() => {
      const scores = tf.tensor2d(logits, [rows, this.classCount]);
      const { hidden, refined } = this.layers(scores);
      const target = oneHot(this.compute, labels, this.classCount);
      const logRefined = tf.logSoftmax(refined);
      const certain = tf.neg(tf.sum(tf.mul(target, logRefined)));
      const pulled = tf.sub(tf.mul(tf.exp(logRefined), 1 + consistencyWeight), target);
      if (consistencyWeight === 0) {
        return { loss: certain, ...this.wayBack(scores, hidden, tf.div(pulled, rows) as Tensor2D) };
      }
      const logScores = tf.logSoftmax(scores);
      const loss = tf.add(certain, tf.mul(divergence(this.compute, logScores, logRefined), consistencyWeight));
      const dRefined = tf.div(tf.sub(pulled, tf.mul(tf.exp(logScores), consistencyWeight)), rows) as Tensor2D;
      return { loss, ...this.wayBack(scores, hidden, dRefined) };
    });
    const [loss, ...parts] = await Promise.all(
      [tensors.loss, ...HEAD_PARAMETERS.map((parameter) => tensors[parameter])].map(read),
    );
    return {
      gradients: mapHead((parameter) => parts[HEAD_PARAMETERS.indexOf(parameter)]),
      loss: loss[0] / rows,
    };
  }
}

/** [rows, C] */
function oneHot({ tf }: TensorFlowCompute, labels: Int32Array, classCount: number): Tensor {
  const classes = tf.range(0, classCount, 1, 'int32') as Tensor1D;
  return tf.cast(tf.equal(tf.tensor2d(labels, [labels.length, 1], 'int32'), classes), 'float32');
}

/** The sum over rows of KL(a ‖ b), both as logarithms of probabilities. */
function divergence({ tf }: TensorFlowCompute, a: Tensor, b: Tensor): Tensor {
  return tf.sum(tf.mul(tf.exp(a), tf.sub(a, b)));
}
