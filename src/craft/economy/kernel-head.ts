import { Float32Kernels } from '../wasm/float32-kernels.js';
import type { LinearHead } from './linear-head.js';

/** Training images in a space of their inputs. */
export interface KernelSpace {
  /** Whose inputs are averaged; with one, that one's. */
  transforms: number[];
  /** Of the inputs, [L]. */
  mean: Float32Array;
  /** One column per axis, [L, K]. */
  axes: Float32Array;
  /** The landmarks: some views of training images, along the axes from the mean, [M, K]. */
  landmarks: Float32Array;
}

/** Σ_m c_m·k(x, x_m): what the likeness to each landmark says for each class. */
export interface KernelTerm {
  /** The kernel is the mean of those in these spaces; in each, axes are multiplied by the scale first, [K]. */
  kernels: { space: number; scale: Float32Array }[];
  /** c, [M, C] */
  coefficients: Float32Array;
}

/**
 * The third kind of refinement head: what the second has, and likeness to training images, r = Σ_t a_t·s_t + W·x + b +
 * Σ_j Σ_m c_jm·k_j(x, x_m), with the k of `similarity.ts`. Kernel logistic regression with the black box's logits as its offset
 * (Zhu and Hastie, Kernel logistic regression and the import vector machine, 2005).
 */
export interface KernelHead extends Omit<LinearHead, 'kind'> {
  kind: 'kernel';
  spaces: KernelSpace[];
  terms: KernelTerm[];
}

/** Images whose inputs and likenesses are in memory at once; and numbers, where those of so many would be more. */
const AT_ONCE = { images: 256, numbers: 32 * 1024 * 1024 };
/** Nobody waits while it computes, so all heads can share it. */
let shared: Float32Kernels | null = null;

/**
 * The terms of a head, ready for many images, in single precision on WebAssembly. What is said of an image does not depend on
 * those beside it.
 */
export class KernelTerms {
  private readonly spaces: KernelSpace[];
  private readonly terms: {
    kernels: { space: number; scale: Float32Array; points: Float32Array; squares: Float64Array }[];
    coefficients: Float32Array;
  }[];

  /** @param width L */
  constructor(
    { spaces, terms }: Pick<KernelHead, 'spaces' | 'terms'>,
    private readonly width: number,
    private readonly classCount: number,
  ) {
    this.spaces = spaces;
    this.terms = terms.map(({ kernels, coefficients }) => ({
      coefficients,
      kernels: kernels.map(({ space, scale }) => {
        const points = spaces[space].landmarks.map((value, at) => value * scale[at % scale.length]);
        return { space, scale, points, squares: squaresOf(points, scale.length) };
      }),
    }));
  }

  /**
   * Adds what the terms say to logits.
   * @param logits [N, C]
   * @param read writes the inputs of an image of all transforms, [T·L]
   */
  addTo(logits: Float32Array, transforms: number, read: (image: number, into: Float64Array) => void): void {
    const { classCount, width } = this;
    const count = logits.length / classCount;
    shared ??= new Float32Kernels();
    // What a failure may have left.
    shared.freeAll();
    const all = new Float64Array(width * transforms);
    const landmarks = this.terms.map(({ coefficients }) => coefficients.length / classCount);
    const numbers = Math.max(this.spaces.length * width, ...landmarks);
    const atOnce = Math.max(1, Math.min(AT_ONCE.images, Math.floor(AT_ONCE.numbers / numbers)));
    for (let first = 0; first < count; first += atOnce) {
      const images = Math.min(atOnce, count - first);
      const inputs = this.spaces.map(() => new Float32Array(images * width));
      for (let i = 0; i < images; i++) {
        read(first + i, all);
        for (const [index, space] of this.spaces.entries()) readSpace(space, all, inputs[index], i * width);
      }
      this.addSome(shared, logits.subarray(first * classCount, (first + images) * classCount), inputs, images);
    }
  }

  /** @param inputs of each space, from its mean, [images, L] */
  private addSome(kernels: Float32Kernels, logits: Float32Array, inputs: Float32Array[], images: number): void {
    const { classCount, width } = this;
    const along = this.spaces.map(({ axes }, index) =>
      product(kernels, inputs[index], axes, images, width, axes.length / width),
    );
    for (const { kernels: own, coefficients } of this.terms) {
      const count = coefficients.length / classCount;
      const likenesses = new Float32Array(images * count);
      for (const { space, scale, points, squares } of own) {
        const here = along[space].map((value, at) => value * scale[at % scale.length]);
        const products = product(kernels, here, points, images, scale.length, count, true);
        const squaresHere = squaresOf(here, scale.length);
        for (let i = 0, at = 0; i < images; i++) {
          for (let m = 0; m < count; m++, at++) {
            likenesses[at] += 1 / (own.length * (1 + Math.max(0, squaresHere[i] + squares[m] - 2 * products[at])));
          }
        }
      }
      const said = product(kernels, likenesses, coefficients, images, count, classCount);
      for (let at = 0; at < said.length; at++) logits[at] += said[at];
    }
  }
}

/** The mean of the inputs of a space's transforms, from that of the training images. */
function readSpace({ transforms, mean }: KernelSpace, inputs: Float64Array, into: Float32Array, at: number): void {
  for (let j = 0; j < mean.length; j++) {
    let sum = 0;
    for (const transform of transforms) sum += inputs[transform * mean.length + j];
    into[at + j] = sum / transforms.length - mean[j];
  }
}

/** @returns a [m, k] · b [k, n], or with b [n, k] its transpose */
function product(
  kernels: Float32Kernels,
  a: Float32Array,
  b: Float32Array,
  m: number,
  k: number,
  n: number,
  transposed = false,
): Float32Array {
  const mark = kernels.mark();
  const [left, right, out] = [a.length, b.length, m * n].map((length) => kernels.allocate(length));
  kernels.upload(left, a);
  kernels.upload(right, b);
  if (transposed) kernels.matmulTransposedB(left, right, out, m, k, n);
  else kernels.matmul(left, right, out, m, k, n);
  const result = kernels.download(out);
  kernels.freeSince(mark);
  return result;
}

/** Of each row, [rows]. */
function squaresOf(rows: Float32Array, width: number): Float64Array {
  const squares = new Float64Array(rows.length / width);
  for (let at = 0; at < rows.length; at++) squares[Math.floor(at / width)] += rows[at] * rows[at];
  return squares;
}
