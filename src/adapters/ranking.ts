/** One label with its probability. */
export interface LabelScore {
  label: string;
  score: number;
}

/**
 * Probabilities of the labels, best first (ties by label order).
 * @param logits [N, C]
 * @returns N lists of the `topK` best labels
 */
export function rankLabels(logits: Float32Array, labels: string[], topK: number): LabelScore[][] {
  const classCount = labels.length;
  const rows: LabelScore[][] = [];
  for (let start = 0; start < logits.length; start += classCount) {
    const row = logits.subarray(start, start + classCount);
    const highest = row.reduce((max, value) => Math.max(max, value), Number.NEGATIVE_INFINITY);
    const weights = Array.from(row, (logit) => Math.exp(logit - highest));
    const total = weights.reduce((sum, weight) => sum + weight, 0);
    const scores = labels.map((label, i) => ({ label, score: weights[i] / total }));
    scores.sort((a, b) => b.score - a.score);
    rows.push(scores.slice(0, topK));
  }
  return rows;
}
