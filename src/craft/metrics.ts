/** The index of the largest logit of a row; the first one on a tie. */
export function argMax(logits: ArrayLike<number>, start: number, classCount: number): number {
  let best = 0;
  for (let c = 1; c < classCount; c++) {
    if (logits[start + c] > logits[start + best]) best = c;
  }
  return best;
}

/**
 * Share of rows whose largest logit is that of the label, from 0 to 1.
 * @param logits [rows, C]
 * @param labels [rows], not empty
 */
export function accuracy(logits: ArrayLike<number>, labels: Int32Array, classCount: number): number {
  let correct = 0;
  for (let i = 0; i < labels.length; i++) {
    if (argMax(logits, i * classCount, classCount) === labels[i]) correct++;
  }
  return correct / labels.length;
}
