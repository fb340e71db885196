import type { AdamState } from './adam.js';
import { type Compute, isGpu } from './compute.js';
import { GpuHead } from './gpu-head.js';
import type { HeadBackend, HeadTrainingOptions } from './head-backend.js';
import type { HeadWeights } from './head-weights.js';
import { SimdHead } from './simd-head.js';
import { TensorFlowHead } from './tensorflow-head.js';

export type { HeadTrainingOptions } from './head-backend.js';

/** The refinement head, wherever it computes. The state of training is plain arrays, exact to store. */
export class RefinementHead {
  readonly classCount: number;
  readonly hiddenWidth: number;
  private readonly backend: HeadBackend;

  /** @param weights copied, as is `adam` */
  constructor(compute: Compute, weights: HeadWeights, adam: AdamState) {
    this.classCount = weights.b2.length;
    this.hiddenWidth = weights.b1.length;
    this.backend = openBackend(compute, weights, adam);
  }

  weights(): HeadWeights {
    return this.backend.weights();
  }

  adamState(): AdamState {
    return this.backend.adamState();
  }

  /** As {@link HeadBackend.refine}. */
  refine(logits: Float32Array): Promise<Float32Array> {
    return this.backend.refine(logits);
  }

  /** As {@link HeadBackend.promptLoss}. */
  promptLoss(logits: Float32Array, labels: Int32Array, consistencyWeight: number): Promise<number> {
    return this.backend.promptLoss(logits, labels, consistencyWeight);
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
    const { batchSize, consistencyWeight, adam } = options;
    let lossSum = 0;
    for (let start = 0; start < order.length; start += batchSize) {
      const rows = order.subarray(start, start + batchSize);
      lossSum += (await this.backend.step(logits, labels, rows, consistencyWeight, adam)) * rows.length;
    }
    return lossSum / order.length;
  }

  /** As {@link HeadBackend.gradients}. */
  gradients(
    logits: Float32Array,
    labels: Int32Array,
    consistencyWeight: number,
  ): Promise<{ gradients: HeadWeights; loss: number }> {
    return this.backend.gradients(logits, labels, consistencyWeight);
  }

  /** Frees what is held on the compute device. The head stays usable. */
  dispose(): void {
    this.backend.dispose();
  }
}

function openBackend(compute: Compute, weights: HeadWeights, adam: AdamState): HeadBackend {
  if (compute.name === 'simd') return new SimdHead(weights, adam);
  return new (isGpu(compute.name) ? GpuHead : TensorFlowHead)(compute, weights, adam);
}
