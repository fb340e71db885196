import type { Tensor, Tensor1D, Tensor2D } from '@tensorflow/tfjs-core';
import { type AdamOptions, type AdamState, adamStep, copyAdamState } from './adam.js';
import type { TensorFlowCompute } from './compute.js';
import { gatherBatch, type HeadBackend } from './head-backend.js';
import {
  copyHead,
  HEAD_PARAMETERS,
  type HeadParameter,
  type HeadWeights,
  headShapes,
  mapHead,
} from './head-weights.js';
import { headLoss, headLossTarget, promptLoss } from './losses.js';

/** Numbers per tensor of hidden activations at most, so that memory stays bounded however many images there are. */
const HIDDEN_LIMIT = 4_194_304;

interface DeviceWeights {
  w1: Tensor2D;
  b1: Tensor1D;
  w2: Tensor2D;
  b2: Tensor1D;
}

/**
 * The refinement head on a TensorFlow.js backend. The weights live in plain arrays, which makes the state of training
 * exact to store; a copy is kept on the device between two steps.
 */
export class TensorFlowHead implements HeadBackend {
  protected readonly classCount: number;
  private readonly hiddenWidth: number;
  private readonly current: HeadWeights;
  private readonly adam: AdamState;
  private device: DeviceWeights | null = null;

  constructor(
    protected readonly compute: TensorFlowCompute,
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

  async refine(logits: Float32Array): Promise<Float32Array> {
    const { classCount } = this;
    const rows = logits.length / classCount;
    const chunk = this.chunkRows();
    if (rows <= chunk) return read(this.forward(logits, rows));
    const refined = new Float32Array(logits.length);
    for (let row = 0; row < rows; row += chunk) {
      const part = logits.subarray(row * classCount, Math.min(rows, row + chunk) * classCount);
      refined.set(await read(this.forward(part, part.length / classCount)), row * classCount);
    }
    return refined;
  }

  protected chunkRows(): number {
    return Math.max(1, Math.floor(HIDDEN_LIMIT / Math.max(this.hiddenWidth, this.classCount)));
  }

  async promptLoss(logits: Float32Array, labels: Int32Array, consistencyWeight: number): Promise<number> {
    return promptLoss(logits, await this.refine(logits), labels, this.classCount, consistencyWeight);
  }

  private forward(logits: Float32Array, rows: number): Tensor2D {
    const { tf } = this.compute;
    this.compute.activate();
    return tf.tidy(() => this.layers(tf.tensor2d(logits, [rows, this.classCount])).refined) as Tensor2D;
  }

  /** The hidden activations [rows, h] and r, [rows, C], of s. */
  protected layers(scores: Tensor2D): { hidden: Tensor2D; refined: Tensor2D } {
    const { tf } = this.compute;
    const { w1, b1, w2, b2 } = this.onDevice();
    const hidden = tf.fused.matMul({ a: scores, b: w1, bias: b1, activation: 'relu' }) as Tensor2D;
    return { hidden, refined: tf.add(scores, tf.fused.matMul({ a: hidden, b: w2, bias: b2 })) as Tensor2D };
  }

  /**
   * The gradients of all parameters from that of r.
   *
   * Written out: automatic differentiation would emit products with transposed operands, which the WebAssembly backend of
   * TensorFlow.js runs at a tenth of the speed of a transposition followed by a plain product.
   */
  protected wayBack(scores: Tensor2D, hidden: Tensor2D, dRefined: Tensor2D): Record<HeadParameter, Tensor> {
    const { tf } = this.compute;
    const dActivated = tf.matMul(dRefined, tf.transpose(this.onDevice().w2));
    const dHidden = tf.mul(dActivated, tf.cast(tf.greater(hidden, 0), 'float32')) as Tensor2D;
    return {
      w1: tf.matMul(tf.transpose(scores), dHidden),
      b1: tf.sum(dHidden, 0),
      w2: tf.matMul(tf.transpose(hidden), dRefined),
      b2: tf.sum(dRefined, 0),
    };
  }

  async step(
    logits: Float32Array,
    labels: Int32Array,
    rows: Uint32Array,
    consistencyWeight: number,
    adam: AdamOptions,
  ): Promise<number> {
    const batchLogits = new Float32Array(rows.length * this.classCount);
    const batchLabels = new Int32Array(rows.length);
    gatherBatch(logits, labels, rows, batchLogits, batchLabels);
    const { gradients, loss } = await this.gradients(batchLogits, batchLabels, consistencyWeight);
    adamStep(this.current, gradients, this.adam, adam);
    this.dispose();
    return loss;
  }

  async gradients(
    logits: Float32Array,
    labels: Int32Array,
    consistencyWeight: number,
  ): Promise<{ gradients: HeadWeights; loss: number }> {
    const { tf } = this.compute;
    const { classCount } = this;
    const rows = labels.length;
    this.compute.activate();
    const target = headLossTarget(logits, labels, classCount, consistencyWeight);
    const tensors = tf.tidy(() => {
      const scores = tf.tensor2d(logits, [rows, classCount]);
      const { hidden, refined } = this.layers(scores);
      const pulled = tf.mul(tf.softmax(refined), 1 + consistencyWeight);
      const dRefined = tf.div(tf.sub(pulled, tf.tensor2d(target, [rows, classCount])), rows) as Tensor2D;
      return { refined, ...this.wayBack(scores, hidden, dRefined) };
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
      w1: tf.keep(tf.tensor2d(this.current.w1, shapes.w1 as [number, number])),
      b1: tf.keep(tf.tensor1d(this.current.b1)),
      w2: tf.keep(tf.tensor2d(this.current.w2, shapes.w2 as [number, number])),
      b2: tf.keep(tf.tensor1d(this.current.b2)),
    };
    return this.device;
  }

  dispose(): void {
    for (const tensor of Object.values(this.device ?? {})) tensor.dispose();
    this.device = null;
  }
}

/** The numbers of a tensor, which is freed. */
export async function read(tensor: Tensor): Promise<Float32Array> {
  try {
    return (await tensor.data()) as Float32Array;
  } finally {
    tensor.dispose();
  }
}
