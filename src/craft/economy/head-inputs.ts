/** What a head on answers sees of an image: so much of each of the transforms that a prediction asks about. */
export type HeadInputs = {
  /** T, the transforms of an image that are asked about; the first is the image itself. */
  transforms: number;
} & (
  | /** The scores of the classes and of M probe labels. */ { kind: 'scores'; probes: number }
  | /** The black box's own embedding, of so many numbers. */ { kind: 'embedding'; width: number }
);

/** L, the inputs of a head from one transform. */
export function inputWidthOf(inputs: HeadInputs, classCount: number): number {
  return inputs.kind === 'scores' ? classCount + inputs.probes : inputs.width;
}

/** Numbers that a black box answers about one transform: C class logits first, then probe scores or the embedding. */
export function answerWidthOf(inputs: HeadInputs, classCount: number): number {
  return classCount + (inputs.kind === 'scores' ? inputs.probes : inputs.width);
}

/**
 * Reads the inputs of one image from its answer in one transform, in double precision.
 * @param answers [N, answer width]
 * @param into is written, L numbers from `at` on
 */
export function readInputs(
  inputs: HeadInputs,
  answers: ArrayLike<number>,
  image: number,
  classCount: number,
  into: Float64Array,
  at: number,
): void {
  const answerWidth = answerWidthOf(inputs, classCount);
  const from = image * answerWidth + (inputs.kind === 'scores' ? 0 : classCount);
  const width = inputWidthOf(inputs, classCount);
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
