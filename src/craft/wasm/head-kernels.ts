import type { AdamOptions } from '../adam.js';
import { HEAD_PARAMETERS, type HeadParameter, type HeadWeights, headShapes, mapHead } from '../head-weights.js';
import { Float32Kernels, type KernelArray } from './float32-kernels.js';

type HeadArrays = Readonly<Record<HeadParameter, KernelArray>>;

/** Something for each weight: one array over all parameters, each padded so that the next one is aligned. */
interface Block {
  whole: KernelArray;
  parts: HeadArrays;
}

/** What a batch needs. */
interface Batch {
  capacity: number;
  /** [rows, C] */
  scores: KernelArray;
  /** [rows, h] */
  hidden: KernelArray;
  /** [rows, h] */
  hiddenGradient: KernelArray;
  /** [rows, C]; its gradient after the way back. */
  refined: KernelArray;
  /** [rows], int32 */
  labels: KernelArray;
  /** [C] of scratch. */
  row: KernelArray;
}

/** Numbers to which a parameter is padded. */
const PADDING = 16;

/**
 * The refinement head r = s + g(s) and a step of its training in the memory of one WebAssembly instance, where weights,
 * gradients and moments stay.
 */
export class HeadKernels extends Float32Kernels {
  private readonly weights: Block;
  private readonly gradients: Block;
  private readonly first: Block;
  private readonly second: Block;
  private readonly afterBlocks: number;
  private batch: Batch | null = null;

  constructor(
    private readonly classCount: number,
    private readonly hiddenWidth: number,
  ) {
    super();
    this.weights = this.allocateBlock();
    this.gradients = this.allocateBlock();
    this.first = this.allocateBlock();
    this.second = this.allocateBlock();
    this.afterBlocks = this.mark();
  }

  private allocateBlock(): Block {
    const shapes = headShapes(this.classCount, this.hiddenWidth);
    const lengths = HEAD_PARAMETERS.map((parameter) => shapes[parameter].reduce((product, size) => product * size, 1));
    const padded = lengths.map((length) => Math.ceil(length / PADDING) * PADDING);
    const whole = this.allocate(padded.reduce((sum, length) => sum + length, 0));
    this.view(whole).fill(0);
    let offset = whole.offset;
    const parts = {} as Record<HeadParameter, KernelArray>;
    HEAD_PARAMETERS.forEach((parameter, i) => {
      parts[parameter] = { offset, length: lengths[i] };
      offset += padded[i] * 4;
    });
    return { whole, parts };
  }

  /** Replaces the weights and both moments. */
  load(weights: HeadWeights, first: HeadWeights, second: HeadWeights): void {
    for (const parameter of HEAD_PARAMETERS) {
      this.upload(this.weights.parts[parameter], weights[parameter]);
      this.upload(this.first.parts[parameter], first[parameter]);
      this.upload(this.second.parts[parameter], second[parameter]);
    }
  }

  /** Copies of what the kernels hold. */
  copyOf(what: 'weights' | 'gradients' | 'first' | 'second'): HeadWeights {
    return mapHead((parameter) => this.download(this[what].parts[parameter]));
  }

  /**
   * Where to write the inputs of a batch of at most so many rows, s [rows, C] and labels [rows]. Of no use any more once
   * more rows are asked for.
   */
  inputs(rows: number): { scores: Float32Array; labels: Int32Array } {
    const { scores, labels } = this.batchOf(rows);
    return { scores: this.view(scores), labels: this.integers(labels) };
  }

  private batchOf(rows: number): Batch {
    if (this.batch !== null && this.batch.capacity >= rows) return this.batch;
    const { classCount, hiddenWidth } = this;
    this.freeSince(this.afterBlocks);
    this.batch = {
      capacity: rows,
      scores: this.allocate(rows * classCount),
      hidden: this.allocate(rows * hiddenWidth),
      hiddenGradient: this.allocate(rows * hiddenWidth),
      refined: this.allocate(rows * classCount),
      labels: this.allocate(rows),
      row: this.allocate(classCount),
    };
    return this.batch;
  }

  /**
   * r of the rows in {@link inputs}.
   * @returns [rows, C], where it lies: good until the next call
   */
  forward(rows: number): Float32Array {
    const { classCount, hiddenWidth, functions } = this;
    const { scores, hidden, refined } = this.batchOf(rows);
    const { w1, b1, w2, b2 } = this.weights.parts;
    this.matmul(scores, w1, hidden, rows, classCount, hiddenWidth);
    functions.addBiasAndRectify(hidden.offset, b1.offset, rows, hiddenWidth);
    functions.addBias(scores.offset, b2.offset, rows, classCount, refined.offset);
    this.matmul(hidden, w2, refined, rows, hiddenWidth, classCount, true);
    return this.view(refined).subarray(0, rows * classCount);
  }

  /**
   * The prompt losses of the rows in {@link inputs}.
   * @param consistencyWeight w
   * @returns their sum
   */
  promptLoss(rows: number, consistencyWeight: number): number {
    if (consistencyWeight !== 0) this.forward(rows);
    const { scores, refined, labels } = this.batchOf(rows);
    return this.functions.promptLoss(
      scores.offset,
      refined.offset,
      labels.offset,
      rows,
      this.classCount,
      consistencyWeight,
    );
  }

  /**
   * The gradients of the head loss on the rows in {@link inputs}, which stay here.
   * @param consistencyWeight w
   * @returns the mean loss
   */
  backward(rows: number, consistencyWeight: number): number {
    const { classCount, hiddenWidth, functions } = this;
    this.forward(rows);
    const { scores, hidden, hiddenGradient, refined, labels, row } = this.batchOf(rows);
    const { w1, b1, w2, b2 } = this.gradients.parts;
    const loss = functions.headLossGradient(
      refined.offset,
      scores.offset,
      labels.offset,
      rows,
      classCount,
      consistencyWeight,
      row.offset,
    );
    functions.sumRows(refined.offset, rows, classCount, b2.offset);
    this.matmulTransposedA(hidden, refined, w2, hiddenWidth, rows, classCount);
    this.matmulTransposedB(refined, this.weights.parts.w2, hiddenGradient, rows, classCount, hiddenWidth);
    functions.maskRectified(hiddenGradient.offset, hidden.offset, rows * hiddenWidth);
    functions.sumRows(hiddenGradient.offset, rows, hiddenWidth, b1.offset);
    this.matmulTransposedA(scores, hiddenGradient, w1, classCount, rows, hiddenWidth);
    return loss;
  }

  /**
   * One step of Adam along the gradients.
   * @param step 1 for the first
   */
  adam(step: number, { learningRate, beta1, beta2, epsilon }: AdamOptions): void {
    const { weights, gradients, first, second } = this;
    this.functions.adam(
      weights.whole.offset,
      gradients.whole.offset,
      first.whole.offset,
      second.whole.offset,
      weights.whole.length,
      beta1,
      beta2,
      learningRate / (1 - beta1 ** step),
      1 / Math.sqrt(1 - beta2 ** step),
      epsilon,
    );
  }
}
