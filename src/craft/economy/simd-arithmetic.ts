import { Float32Kernels, type KernelArray } from '../wasm/float32-kernels.js';
import type { HeadArithmetic, Regression, RegressionProblem } from './arithmetic.js';

/** The memory of a regression that ended is used by the next one; larger ones are left to the garbage collector. */
const KEPT_BYTES = 64 * 1024 * 1024;
let idle: Float32Kernels | null = null;

/** On WebAssembly with SIMD. */
export const simdArithmetic: HeadArithmetic = {
  regression: (problem) => new SimdRegression(problem),
};

class SimdRegression implements Regression {
  private readonly kernels: Float32Kernels;
  private readonly width: number;
  private readonly classCount: number;
  private readonly counted: number;
  private readonly others: number;
  private readonly inputs: KernelArray;
  private readonly otherInputs: KernelArray;
  private readonly offsets: KernelArray;
  private readonly labels: KernelArray;
  private readonly weights: KernelArray;
  private readonly parameters: KernelArray;
  private readonly logits: KernelArray;
  private readonly gradient: KernelArray;
  private isOpen = true;

  constructor({ inputs, width, offsets, labels, classCount, weights }: RegressionProblem) {
    this.kernels = idle ?? new Float32Kernels();
    idle = null;
    this.width = width;
    this.classCount = classCount;
    this.counted = labels.length;
    this.others = inputs.length / width - labels.length;
    const place = (values: Float32Array | Int32Array) => {
      const array = this.kernels.allocate(values.length);
      this.kernels.upload(array, values);
      return array;
    };
    this.inputs = place(inputs.subarray(0, this.counted * width));
    this.otherInputs = place(inputs.subarray(this.counted * width));
    this.offsets = place(offsets);
    this.labels = place(labels);
    this.weights = place(weights);
    this.parameters = this.kernels.allocate(width * classCount);
    this.gradient = this.kernels.allocate(width * classCount);
    this.logits = this.kernels.allocate(Math.max(this.counted, this.others) * classCount);
  }

  lossAndGradient(parameters: Float64Array, gradient: Float64Array): number {
    const { kernels, width, classCount, counted } = this;
    kernels.upload(this.parameters, parameters);
    kernels.matmul(this.inputs, this.parameters, this.logits, counted, width, classCount);
    const loss = kernels.softmaxCrossEntropyGradient(this.logits, this.labels, classCount, this.offsets, this.weights);
    kernels.matmulTransposedA(this.inputs, this.logits, this.gradient, width, counted, classCount);
    gradient.set(kernels.view(this.gradient));
    return loss;
  }

  residuals(parameters: Float64Array): Float32Array {
    const { kernels, width, classCount, others } = this;
    if (others === 0) return new Float32Array(0);
    kernels.upload(this.parameters, parameters);
    kernels.matmul(this.otherInputs, this.parameters, this.logits, others, width, classCount);
    return kernels.view(this.logits).slice(0, others * classCount);
  }

  dispose(): void {
    if (!this.isOpen) return;
    this.isOpen = false;
    this.kernels.freeAll();
    if (this.kernels.memoryBytes <= KEPT_BYTES) idle = this.kernels;
  }
}
