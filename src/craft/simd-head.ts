import type { AdamOptions, AdamState } from './adam.js';
import { gatherBatch, type HeadBackend } from './head-backend.js';
import type { HeadWeights } from './head-weights.js';
import { HeadKernels } from './wasm/head-kernels.js';

/** Rows refined or judged at a time, so that memory stays bounded however many images there are. */
const REFINED_ROWS = 256;

/** The refinement head on the processor, by the kernels of this program. Single precision; sums of losses in double. */
export class SimdHead implements HeadBackend {
  private readonly kernels: HeadKernels;
  private readonly classCount: number;
  private stepCount: number;

  constructor(weights: HeadWeights, { first, second, step }: AdamState) {
    this.classCount = weights.b2.length;
    this.kernels = new HeadKernels(this.classCount, weights.b1.length);
    this.kernels.load(weights, first, second);
    this.stepCount = step;
  }

  /** Bytes of kernel memory. */
  get memoryBytes(): number {
    return this.kernels.memoryBytes;
  }

  weights(): HeadWeights {
    return this.kernels.copyOf('weights');
  }

  adamState(): AdamState {
    return { first: this.kernels.copyOf('first'), second: this.kernels.copyOf('second'), step: this.stepCount };
  }

  async refine(logits: Float32Array): Promise<Float32Array> {
    const chunk = REFINED_ROWS * this.classCount;
    const refined = new Float32Array(logits.length);
    for (let start = 0; start < logits.length; start += chunk) {
      const part = logits.subarray(start, start + chunk);
      const rows = part.length / this.classCount;
      this.kernels.inputs(rows).scores.set(part);
      refined.set(this.kernels.forward(rows), start);
    }
    return refined;
  }

  async promptLoss(logits: Float32Array, labels: Int32Array, consistencyWeight: number): Promise<number> {
    let sum = 0;
    for (let row = 0; row < labels.length; row += REFINED_ROWS) {
      const part = labels.subarray(row, row + REFINED_ROWS);
      const inputs = this.kernels.inputs(part.length);
      inputs.scores.set(logits.subarray(row * this.classCount, (row + part.length) * this.classCount));
      inputs.labels.set(part);
      sum += this.kernels.promptLoss(part.length, consistencyWeight);
    }
    return sum / labels.length;
  }

  async gradients(
    logits: Float32Array,
    labels: Int32Array,
    consistencyWeight: number,
  ): Promise<{ gradients: HeadWeights; loss: number }> {
    const inputs = this.kernels.inputs(labels.length);
    inputs.scores.set(logits);
    inputs.labels.set(labels);
    const loss = this.kernels.backward(labels.length, consistencyWeight);
    return { gradients: this.kernels.copyOf('gradients'), loss };
  }

  async step(
    logits: Float32Array,
    labels: Int32Array,
    rows: Uint32Array,
    consistencyWeight: number,
    adam: AdamOptions,
  ): Promise<number> {
    const inputs = this.kernels.inputs(rows.length);
    gatherBatch(logits, labels, rows, inputs.scores, inputs.labels);
    const loss = this.kernels.backward(rows.length, consistencyWeight);
    this.stepCount++;
    this.kernels.adam(this.stepCount, adam);
    return loss;
  }

  /** Nothing is held outside of this object. */
  dispose(): void {}
}
