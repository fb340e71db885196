import type { ContentFault } from '../misbehaviour.js';
import { logSoftmax } from '../softmax.js';

interface LabelScore {
  label: string;
  /** Probability among the labels; null where it is not a number. */
  score: number | null;
}

/** The labels with their probabilities, most probable first. */
export function zeroShotAnswer(labels: string[], logits: Float32Array, fault: ContentFault | undefined): unknown[] {
  const scores = logSoftmax(logits)
    .map((logProbability, i) => ({ label: labels[i], score: Math.exp(logProbability) }))
    .sort((a, b) => b.score - a.score);
  return fault === undefined ? scores : spoil(scores, fault);
}

function spoil(scores: LabelScore[], fault: ContentFault): unknown[] {
  const last = scores[scores.length - 1];
  switch (fault) {
    case 'nan':
      return scores.map((entry, i) => (i === 0 ? { ...entry, score: null } : entry));
    case 'missing_value':
      return [...scores.slice(0, -1), { label: last.label }];
    case 'missing_label':
      return scores.slice(0, -1);
    case 'wrong_count':
      return [...scores, last];
  }
}
