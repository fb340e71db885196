/** Scores of one image as JSON answers list them. What is wrong with them is returned in words. */

const MOST_QUOTED = 60;
/** What is computed with larger ones overflows in single precision. */
export const LARGEST_LOGIT = 1e6;

/** Brings scores into the order of the labels that were asked about. */
export function matchLabels(answered: string[], scores: number[], asked: string[]): number[] | string {
  if (answered.length !== scores.length) return `There are ${scores.length} scores for ${answered.length} labels.`;
  const byLabel = new Map<string, number>();
  for (const [i, label] of answered.entries()) {
    if (byLabel.has(label)) return `The label ${quoted(label)} is there twice.`;
    byLabel.set(label, scores[i]);
  }
  const missing = asked.filter((label) => !byLabel.has(label));
  if (missing.length > 0) {
    return `It has no score for ${missing.length} of the ${asked.length} labels, such as ${quoted(missing[0])}.`;
  }
  return asked.map((label) => byLabel.get(label)!);
}

/** @returns what is wrong with logits; undefined where all of them can be computed with */
export function unusableLogits(logits: Float32Array): string | undefined {
  let i = 0;
  while (i < logits.length && Math.abs(logits[i]) <= LARGEST_LOGIT) i++;
  if (i === logits.length) return undefined;
  return `${logits[i]} is no logit: they are numbers from -${LARGEST_LOGIT} to ${LARGEST_LOGIT}.`;
}

/**
 * ln of probabilities. A 0 counts as the floor, and is never likelier than what is not 0.
 * @param probabilities rows of `classCount`, each over the same classes
 */
export function toLogProbabilities(
  probabilities: number[],
  floor: number,
  classCount = probabilities.length,
): Float32Array | string {
  const wrong = probabilities.findIndex((value) => !(value >= 0 && value <= 1.001));
  if (wrong >= 0) return `${probabilities[wrong]} is no probability.`;
  const logarithms = new Float32Array(probabilities.length);
  for (let start = 0; start < probabilities.length; start += classCount) {
    const row = probabilities.slice(start, start + classCount);
    const least = row.reduce((least, value) => (value > 0 ? Math.min(least, value) : least), floor);
    logarithms.set(
      row.map((value) => Math.log(value > 0 ? value : least)),
      start,
    );
  }
  return logarithms;
}

export function quoted(text: string): string {
  return JSON.stringify(text.length > MOST_QUOTED ? `${text.slice(0, MOST_QUOTED)}…` : text);
}
