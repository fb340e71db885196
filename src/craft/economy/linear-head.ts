/** What a linear refinement head sees of an image: so much of each of the transforms that a prediction asks about. */
export type HeadInputs = {
  /** T, the transforms of an image that are asked about; the first is the image itself. */
  transforms: number;
} & (
  | /** The scores of the classes and of M probe labels. */ { kind: 'scores'; probes: number }
  | /** The black box's own embedding, of so many numbers. */ { kind: 'embedding'; width: number }
);

/**
 * The second kind of refinement head, a residual on the class logits like the first: r = Σ_t a_t·s_t + W·x + b. Of scores, x
 * has those of each transform less their mean: the constant that separates logits from log-probabilities cancels.
 */
export interface LinearHead {
  kind: 'linear';
  inputs: HeadInputs;
  /** a, the shares of the transforms' own class logits, [T]. */
  shares: Float32Array;
  /** [T·L, C], one row per input. */
  weight: Float32Array;
  /** [C] */
  bias: Float32Array;
}

/** L, the inputs of a head from one transform. */
export function inputWidthOf(inputs: HeadInputs, classCount: number): number {
  return inputs.kind === 'scores' ? classCount + inputs.probes : inputs.width;
}

/** Numbers that a black box answers about one transform: C class logits first, then probe scores or the embedding. */
export function answerWidthOf(inputs: HeadInputs, classCount: number): number {
  return classCount + (inputs.kind === 'scores' ? inputs.probes : inputs.width);
}

/** The head that leaves the image's own logits as they are. */
export function noHead(inputs: HeadInputs, classCount: number): LinearHead {
  const shares = new Float32Array(inputs.transforms);
  shares[0] = 1;
  return {
    kind: 'linear',
    inputs,
    shares,
    weight: new Float32Array(inputs.transforms * inputWidthOf(inputs, classCount) * classCount),
    bias: new Float32Array(classCount),
  };
}

/**
 * Reads the inputs of one image from its answer in one transform, in double precision.
 * @param answers [N, answer width]
 * @param into is written, L numbers from `at` on
 * @param labels of scores, only so many of the first labels are read
 */
export function readInputs(
  inputs: HeadInputs,
  answers: ArrayLike<number>,
  image: number,
  classCount: number,
  into: Float64Array,
  at: number,
  labels?: number,
): void {
  const answerWidth = answerWidthOf(inputs, classCount);
  const from = image * answerWidth + (inputs.kind === 'scores' ? 0 : classCount);
  const width = labels ?? inputWidthOf(inputs, classCount);
  let mean = 0;
  if (inputs.kind === 'scores') {
    for (let j = 0; j < width; j++) mean += answers[from + j];
    mean /= width;
  }
  for (let j = 0; j < width; j++) into[at + j] = answers[from + j] - mean;
}

/**
 * The class logits, Σ_t a_t·s_t.
 * @param answers of each transform, [N, answer width]
 * @returns [N, C]
 */
export function sharedLogits(
  inputs: HeadInputs,
  answers: ArrayLike<number>[],
  shares: ArrayLike<number>,
  classCount: number,
): Float32Array {
  const answerWidth = answerWidthOf(inputs, classCount);
  const logits = new Float32Array((answers[0].length / answerWidth) * classCount);
  for (const [t, rows] of answers.entries()) {
    if (shares[t] === 0) continue;
    for (let at = 0, from = 0; at < logits.length; at += classCount, from += answerWidth) {
      for (let c = 0; c < classCount; c++) logits[at + c] += shares[t] * rows[from + c];
    }
  }
  return logits;
}

/**
 * r = Σ_t a_t·s_t + W·x + b, with sums in double precision. For predictions: no backend to start.
 * @param answers of each transform, [N, answer width]
 * @returns r, [N, C]
 */
export function refineAnswers(head: LinearHead, answers: ArrayLike<number>[]): Float32Array {
  const { inputs, shares, weight, bias } = head;
  const classCount = bias.length;
  const width = inputWidthOf(inputs, classCount);
  const refined = sharedLogits(inputs, answers, shares, classCount);
  const x = new Float64Array(width * inputs.transforms);
  const sums = new Float64Array(classCount);
  for (let i = 0; i < refined.length / classCount; i++) {
    for (const [t, rows] of answers.entries()) readInputs(inputs, rows, i, classCount, x, t * width);
    sums.set(bias);
    for (let j = 0; j < x.length; j++) {
      const row = j * classCount;
      for (let c = 0; c < classCount; c++) sums[c] += x[j] * weight[row + c];
    }
    for (let c = 0; c < classCount; c++) refined[i * classCount + c] += sums[c];
  }
  return refined;
}
