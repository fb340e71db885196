import type { Random } from './random.js';

/** The residual network g of the refinement r = s + g(s): Linear(C, h) → ReLU → Linear(h, C). */
export interface HeadWeights {
  /** [C, h], one row per input class. */
  w1: Float32Array;
  /** [h] */
  b1: Float32Array;
  /** [h, C], one row per hidden unit. */
  w2: Float32Array;
  /** [C] */
  b2: Float32Array;
}

export const HEAD_PARAMETERS = ['w1', 'b1', 'w2', 'b2'] as const;
export type HeadParameter = (typeof HEAD_PARAMETERS)[number];

/** The shape of each parameter. */
export function headShapes(classCount: number, hiddenWidth: number): Record<HeadParameter, number[]> {
  return { w1: [classCount, hiddenWidth], b1: [hiddenWidth], w2: [hiddenWidth, classCount], b2: [classCount] };
}

/** Makes one array per parameter. */
export function mapHead(make: (parameter: HeadParameter) => Float32Array): HeadWeights {
  return { w1: make('w1'), b1: make('b1'), w2: make('w2'), b2: make('b2') };
}

/** With arrays of its own. */
export function copyHead(weights: HeadWeights): HeadWeights {
  return mapHead((parameter) => weights[parameter].slice());
}

/** All parameters zero, in the shapes of {@link headShapes}. */
export function zeroHead(classCount: number, hiddenWidth: number): HeadWeights {
  const shapes = headShapes(classCount, hiddenWidth);
  return mapHead((parameter) => new Float32Array(shapes[parameter].reduce((product, size) => product * size, 1)));
}

/** PyTorch's default for Linear: weights and biases uniform within ±1/√(inputs of the layer). */
export function initialHead(classCount: number, hiddenWidth: number, random: Random): HeadWeights {
  const weights = zeroHead(classCount, hiddenWidth);
  random.fillUniform(weights.w1, 1 / Math.sqrt(classCount));
  random.fillUniform(weights.b1, 1 / Math.sqrt(classCount));
  random.fillUniform(weights.w2, 1 / Math.sqrt(hiddenWidth));
  random.fillUniform(weights.b2, 1 / Math.sqrt(hiddenWidth));
  return weights;
}

/**
 * r = s + g(s) in plain JavaScript with sums in double precision. For predictions: no backend to start, no tensor to
 * move, and a few images cost far less than a millisecond.
 * @param logits s, [rows, C]
 * @returns r, [rows, C]
 */
export function refineLogits(weights: HeadWeights, logits: ArrayLike<number>): Float32Array {
  const { w1, b1, w2, b2 } = weights;
  const classCount = b2.length;
  const hiddenWidth = b1.length;
  const refined = new Float32Array(logits.length);
  const hidden = new Float64Array(hiddenWidth);
  const output = new Float64Array(classCount);
  for (let start = 0; start < logits.length; start += classCount) {
    hidden.set(b1);
    for (let c = 0; c < classCount; c++) {
      const input = logits[start + c];
      const row = c * hiddenWidth;
      for (let j = 0; j < hiddenWidth; j++) hidden[j] += input * w1[row + j];
    }
    output.set(b2);
    for (let j = 0; j < hiddenWidth; j++) {
      const activation = hidden[j];
      if (activation <= 0) continue;
      const row = j * classCount;
      for (let c = 0; c < classCount; c++) output[c] += activation * w2[row + c];
    }
    for (let c = 0; c < classCount; c++) refined[start + c] = logits[start + c] + output[c];
  }
  return refined;
}
