import type { AdamOptions, AdamState } from './adam.js';
import type { HeadWeights } from './head-weights.js';

export interface HeadTrainingOptions {
  batchSize: number;
  /** w of the KL term; 0 switches it off. */
  consistencyWeight: number;
  adam: AdamOptions;
}

/** Where the refinement head computes: its weights, and what is done with them. */
export interface HeadBackend {
  /** A copy. */
  weights(): HeadWeights;
  /** A copy. */
  adamState(): AdamState;
  /**
   * r = s + g(s).
   * @param logits s, [rows, C]; must not change before the promise resolves
   * @returns r, [rows, C]
   */
  refine(logits: Float32Array): Promise<Float32Array>;
  /**
   * The fitness of a prompt, as `promptLoss` of losses.ts has it, at the present weights.
   * @param logits s, [rows, C]; must not change before the promise resolves
   * @param labels [rows]
   * @param consistencyWeight w
   */
  promptLoss(logits: Float32Array, labels: Int32Array, consistencyWeight: number): Promise<number>;
  /**
   * The mean head loss of a batch, CE(softmax(r), y) + w · KL(softmax(s) ‖ softmax(r)), and its gradients.
   * @param logits s, [rows, C]
   * @param labels [rows]
   */
  gradients(
    logits: Float32Array,
    labels: Int32Array,
    consistencyWeight: number,
  ): Promise<{ gradients: HeadWeights; loss: number }>;
  /**
   * One step of Adam along these gradients.
   * @param logits s, [N, C]
   * @param labels [N]
   * @param rows which of the N images make up the batch
   * @returns the mean loss of the batch before the step
   */
  step(
    logits: Float32Array,
    labels: Int32Array,
    rows: Uint32Array,
    consistencyWeight: number,
    adam: AdamOptions,
  ): Promise<number>;
  /** Frees what is held on the compute device; the next use brings it back. */
  dispose(): void;
}

/**
 * Copies the rows of a batch together.
 * @param scores receives [rows, C]
 * @param batchLabels receives [rows]
 */
export function gatherBatch(
  logits: Float32Array,
  labels: Int32Array,
  rows: Uint32Array,
  scores: Float32Array,
  batchLabels: Int32Array,
): void {
  const classCount = logits.length / labels.length;
  for (let i = 0; i < rows.length; i++) {
    const row = rows[i];
    batchLabels[i] = labels[row];
    const from = row * classCount;
    const to = i * classCount;
    for (let c = 0; c < classCount; c++) scores[to + c] = logits[from + c];
  }
}
