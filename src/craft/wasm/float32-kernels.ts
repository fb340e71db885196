import { bytes } from './generated/float32.js';
import { instantiate, type KernelExports, Layout } from './instance.js';

/** The exports of float32.as.ts. Pointers are byte offsets. */
export interface Float32Functions {
  firstFreeByte(): number;
  scratchBytes(): number;
  useScratch(offset: number): void;
  product(
    a: number,
    transposedA: number,
    b: number,
    transposedB: number,
    out: number,
    m: number,
    k: number,
    n: number,
    accumulate: number,
  ): void;
  softmaxCrossEntropyGradient(
    logits: number,
    offset: number,
    labels: number,
    weights: number,
    rows: number,
    classCount: number,
  ): number;
  headLossGradient(
    refined: number,
    blackBox: number,
    labels: number,
    rows: number,
    classCount: number,
    consistencyWeight: number,
    row: number,
  ): number;
  promptLoss(
    blackBox: number,
    refined: number,
    labels: number,
    rows: number,
    classCount: number,
    consistencyWeight: number,
  ): number;
  addBias(matrix: number, bias: number, rows: number, columns: number, out: number): void;
  addBiasAndRectify(matrix: number, bias: number, rows: number, columns: number): void;
  maskRectified(gradient: number, activation: number, length: number): void;
  sumRows(matrix: number, rows: number, columns: number, out: number): void;
  adam(
    weights: number,
    gradients: number,
    first: number,
    second: number,
    length: number,
    beta1: number,
    beta2: number,
    stepSize: number,
    secondCorrection: number,
    epsilon: number,
  ): void;
  exponentials(values: number, length: number): void;
}

/** An array of 4-byte numbers in kernel memory. */
export interface KernelArray {
  /** Byte offset. */
  readonly offset: number;
  /** Numbers. */
  readonly length: number;
}

/**
 * Linear algebra in float32 on arrays that stay in the memory of one WebAssembly instance, which nobody shares. Matrices
 * are row-major and dense, outputs must not overlap inputs. The arithmetic is in a fixed order: the same inputs give the
 * same bits on every machine.
 *
 * A memory holds at most 4 GiB; beyond that allocation throws a RangeError. It never shrinks, but goes with the object.
 */
export class Float32Kernels {
  protected readonly functions: KernelExports<Float32Functions>;
  private readonly layout: Layout;
  private readonly empty: number;

  constructor() {
    this.functions = instantiate<Float32Functions>(bytes);
    this.layout = new Layout(this.functions.memory, this.functions.firstFreeByte());
    this.functions.useScratch(this.layout.reserve(this.functions.scratchBytes()));
    this.empty = this.layout.mark();
  }

  /** Bytes of the memory, whether in use or not. */
  get memoryBytes(): number {
    return this.functions.memory.buffer.byteLength;
  }

  /** e^x of each number, in place, within 2 units in the last place for x in [-64, 88.37]; 0 below. For arrays of 4·n. */
  exponentials(array: KernelArray): void {
    this.functions.exponentials(array.offset, array.length);
  }

  /** An array of undefined content, of float32 or int32 as it is used, until it is freed. */
  allocate(length: number): KernelArray {
    return { offset: this.layout.reserve(length * 4), length };
  }

  /** For {@link freeSince}. */
  mark(): number {
    return this.layout.mark();
  }

  /** Frees every array that was allocated since the mark. */
  freeSince(mark: number): void {
    this.layout.release(mark);
  }

  freeAll(): void {
    this.layout.release(this.empty);
  }

  /** The numbers of an array where they lie. Of no use any more once something is allocated. */
  view(array: KernelArray): Float32Array {
    return new Float32Array(this.functions.memory.buffer, array.offset, array.length);
  }

  /** As {@link view}, of integers such as labels. */
  integers(array: KernelArray): Int32Array {
    return new Int32Array(this.functions.memory.buffer, array.offset, array.length);
  }

  /** Copies numbers into an array, from its index `at` on. */
  upload(array: KernelArray, values: ArrayLike<number>, at = 0): void {
    (values instanceof Int32Array ? this.integers(array) : this.view(array)).set(values, at);
  }

  /** A copy of the numbers of an array. */
  download(array: KernelArray): Float32Array {
    return this.view(array).slice();
  }

  /** out [m, n] = a [m, k] · b [k, n], added to what is there if `accumulate`. */
  matmul(a: KernelArray, b: KernelArray, out: KernelArray, m: number, k: number, n: number, accumulate = false): void {
    this.product(a, false, b, false, out, m, k, n, accumulate);
  }

  /** out [m, n] = aᵀ · b with a [k, m] and b [k, n]. */
  matmulTransposedA(
    a: KernelArray,
    b: KernelArray,
    out: KernelArray,
    m: number,
    k: number,
    n: number,
    accumulate = false,
  ): void {
    this.product(a, true, b, false, out, m, k, n, accumulate);
  }

  /** out [m, n] = a · bᵀ with a [m, k] and b [n, k]. */
  matmulTransposedB(
    a: KernelArray,
    b: KernelArray,
    out: KernelArray,
    m: number,
    k: number,
    n: number,
    accumulate = false,
  ): void {
    this.product(a, false, b, true, out, m, k, n, accumulate);
  }

  private product(
    a: KernelArray,
    transposedA: boolean,
    b: KernelArray,
    transposedB: boolean,
    out: KernelArray,
    m: number,
    k: number,
    n: number,
    accumulate: boolean,
  ): void {
    if (a.length < m * k || b.length < k * n || out.length < m * n) {
      throw new RangeError(`A product of [${m}, ${k}] and [${k}, ${n}] does not fit arrays that are smaller.`);
    }
    const { product } = this.functions;
    product(a.offset, +transposedA, b.offset, +transposedB, out.offset, m, k, n, +accumulate);
  }

  /**
   * Multinomial logistic regression in one pass: the cross-entropy of each row, and its gradient by the logits in their place,
   * weights[i] · (softmax(logits_i + offset_i) - one-hot(labels[i])).
   * @param logits finite, [rows, C]; replaced by the gradient
   * @param labels int32 in [0, C), [rows]
   * @param offset finite, [rows, C]; added to the logits first. None by default
   * @param weights [rows]; a row of weight 0 counts for nothing. Ones by default
   * @returns Σ_i weights[i] · CE_i in nats, summed in double precision
   */
  softmaxCrossEntropyGradient(
    logits: KernelArray,
    labels: KernelArray,
    classCount: number,
    offset: KernelArray | null = null,
    weights: KernelArray | null = null,
  ): number {
    const rows = labels.length;
    const smaller = [offset, logits].some((matrix) => matrix !== null && matrix.length < rows * classCount);
    if (smaller || (weights !== null && weights.length < rows)) {
      throw new RangeError(`${rows} rows of ${classCount} logits do not fit arrays that are smaller.`);
    }
    return this.functions.softmaxCrossEntropyGradient(
      logits.offset,
      offset?.offset ?? 0,
      labels.offset,
      weights?.offset ?? 0,
      rows,
      classCount,
    );
  }
}
