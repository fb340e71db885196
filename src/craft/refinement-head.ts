import type { Tensor, Tensor1D, Tensor2D } from '@tensorflow/tfjs-core';
import { type AdamOptions, type AdamState, adamStep, copyAdamState } from './adam.js';
import type { Compute } from './compute.js';
import { copyHead, HEAD_PARAMETERS, type HeadWeights, headShapes, mapHead } from './head-weights.js';
import { headLoss, headLossTarget } from './losses.js';

/** Numbers per tensor of hidden activations at most, so that memory stays bounded however many images there are. */
const HIDDEN_LIMIT = 4_194_304;

interface DeviceWeights {
  w1: Tensor2D;
  b1: Tensor1D;
  w2: Tensor2D;
  b2: Tensor1D;
}

export interface HeadTrainingOptions {
  batchSize: number;
  /** w of the KL term; 0 switches it off. */
  consistencyWeight: number;
  adam: AdamOptions;
}

/**
 * The refinement head on a TensorFlow.js backend. The weights live in plain arrays, which makes the state of training
 * exact to store; a copy is kept on the device between two steps.
 */
export class RefinementHead {
  readonly classCount: number;
  readonly hiddenWidth: number;
  private readonly current: HeadWeights;
  private readonly adam: AdamState;
  private device: DeviceWeights | null = null;

  constructor(
    private readonly compute: Compute,
    weights: HeadWeights,
    adam: AdamState,
  ) {
    this.classCount = weights.b2.length;
    this.hiddenWidth = weights.b1.length;
    this.current = copyHead(weights);
    this.adam = copyAdamState(adam);
  }

  weights(): HeadWeights {
    return copyHead(this.current);
  }

  adamState(): AdamState {
    return copyAdamState(this.adam);
  }

  /**
   * r = s + g(s).
   * @param logits s, [rows, C]; must not change before the promise resolves
   * @returns r, [rows, C]
   */
  async refine(logits: Float32Array): Promise<Float32Array> {
    const { classCount } = this;
    const rows = logits.length / classCount;
    const chunk = Math.max(1, Math.floor(HIDDEN_LIMIT / Math.max(this.hiddenWidth, classCount)));
    if (rows <= chunk) return read(this.forward(logits, rows));
    const refined = new Float32Array(logits.length);
    for (let row = 0; row < rows; row += chunk) {
      const part = logits.subarray(row * classCount, Math.min(rows, row + chunk) * classCount);
      refined.set(await read(this.forward(part, part.length / classCount)), row * classCount);
    }
    return refined;
  }

  private forward(logits: Float32Array, rows: number): Tensor2D {
    const { tf } = this.compute;
    const { w1, b1, w2, b2 } = this.onDevice();
    return tf.tidy(() => {
      const scores = tf.tensor2d(logits, [rows, this.classCount]);
      const hidden = tf.fused.matMul({ a: scores, b: w1, bias: b1, activation: 'relu' });
      return tf.add(scores, tf.fused.matMul({ a: hidden, b: w2, bias: b2 })) as Tensor2D;
    });
  }

  /**
   * One pass over the images in minibatches, each one step of Adam on CE(softmax(r), y) + w · KL(softmax(s) ‖ softmax(r)).
   * @param logits s, [N, C]
   * @param labels [N]
   * @param order the images in the order in which to take them, [N]
   * @returns mean loss over the images, each at the weights its batch was judged with
   */
  async trainEpoch(
    logits: Float32Array,
    labels: Int32Array,
    order: Uint32Array,
    options: HeadTrainingOptions,
  ): Promise<number> {
    const { classCount } = this;
    let lossSum = 0;
    for (let start = 0; start < order.length; start += options.batchSize) {
      const rows = order.subarray(start, start + options.batchSize);
      const batchLogits = new Float32Array(rows.length * classCount);
      const batchLabels = new Int32Array(rows.length);
      rows.forEach((row, i) => {
        batchLogits.set(logits.subarray(row * classCount, (row + 1) * classCount), i * classCount);
        batchLabels[i] = labels[row];
      });
      const { gradients, loss } = await this.gradients(batchLogits, batchLabels, options.consistencyWeight);
      adamStep(this.current, gradients, this.adam, options.adam);
      this.dispose();
      lossSum += loss * rows.length;
    }
    return lossSum / order.length;
  }

  /**
   * The head loss of a batch and its gradients.
   *
   * The backward pass is written out. Automatic differentiation would emit products with transposed operands, which the
   * WebAssembly backend runs at a tenth of the speed of a transposition followed by a plain product.
   * @param logits s, [rows, C]
   * @param labels [rows]
   */
  async gradients(
    logits: Float32Array,
    labels: Int32Array,
    consistencyWeight: number,
  ): Promise<{ gradients: HeadWeights; loss: number }> {
    const { tf } = this.compute;
    const { classCount } = this;
    const rows = labels.length;
    const { w1, b1, w2, b2 } = this.onDevice();
    const target = headLossTarget(logits, labels, classCount, consistencyWeight);
    const tensors = tf.tidy(() => {
      const scores = tf.tensor2d(logits, [rows, classCount]);
      const hidden = tf.fused.matMul({ a: scores, b: w1, bias: b1, activation: 'relu' });
      const refined = tf.add(scores, tf.fused.matMul({ a: hidden, b: w2, bias: b2 })) as Tensor2D;
      const pulled = tf.mul(tf.softmax(refined), 1 + consistencyWeight);
      const dRefined = tf.div(tf.sub(pulled, tf.tensor2d(target, [rows, classCount])), rows) as Tensor2D;
      const dActivated = tf.matMul(dRefined, tf.transpose(w2));
      const dHidden = tf.mul(dActivated, tf.cast(tf.greater(hidden, 0), 'float32')) as Tensor2D;
      return {
        refined,
        w1: tf.matMul(tf.transpose(scores), dHidden),
        b1: tf.sum(dHidden, 0),
        w2: tf.matMul(tf.transpose(hidden), dRefined),
        b2: tf.sum(dRefined, 0),
      };
    });
    const [refined, ...parts] = await Promise.all(
      [tensors.refined, ...HEAD_PARAMETERS.map((parameter) => tensors[parameter])].map(read),
    );
    return {
      gradients: mapHead((parameter) => parts[HEAD_PARAMETERS.indexOf(parameter)]),
      loss: headLoss(logits, refined, labels, classCount, consistencyWeight),
    };
  }

  private onDevice(): DeviceWeights {
    const { tf } = this.compute;
    const shapes = headShapes(this.classCount, this.hiddenWidth);
    this.device ??= {
      w1: tf.tensor2d(this.current.w1, shapes.w1 as [number, number]),
      b1: tf.tensor1d(this.current.b1),
      w2: tf.tensor2d(this.current.w2, shapes.w2 as [number, number]),
      b2: tf.tensor1d(this.current.b2),
    };
    return this.device;
  }

  /** Frees the copy on the device. The head stays usable; the next use uploads the weights again. */
  dispose(): void {
    for (const tensor of Object.values(this.device ?? {})) tensor.dispose();
    this.device = null;
  }
}

/** The numbers of a tensor, which is freed. */
async function read(tensor: Tensor): Promise<Float32Array> {
  try {
    return (await tensor.data()) as Float32Array;
  } finally {
    tensor.dispose();
  }
}
