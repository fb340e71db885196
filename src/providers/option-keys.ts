import { LARGEST_LOGIT } from './score-lists.js';

/** The names of options in a question that is answered by one token. */

const LETTERS = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz';
/** What tokenizers put before a word. */
const WORD_START = /^[\s\u0120\u2581]+/;

/** A, B, … or 1, 2, …; fewer than `count` where letters run out. */
export function optionKeys(kind: 'letters' | 'numbers', count: number): string[] {
  if (kind === 'letters') return [...LETTERS.slice(0, count)];
  return Array.from({ length: count }, (_, i) => String(i + 1));
}

/**
 * The log-probability of each key among the likeliest tokens. A key that is there in several spellings (with a blank
 * before it) has their sum. One that is not there has the floor, and is never likelier than one that is.
 */
export function logProbabilitiesOfKeys(
  tokens: { token: string; logprob: number }[],
  keys: string[],
  floor: number,
): Float32Array {
  const known = new Map<string, number>();
  for (const { token, logprob } of tokens) {
    const key = token.replace(WORD_START, '').trimEnd();
    known.set(key, logOfSum(known.get(key), Math.max(-LARGEST_LOGIT, logprob)));
  }
  const scores = keys.map((key) => known.get(key));
  const least = scores.reduce<number>((least, score = least) => Math.min(least, score), floor);
  return Float32Array.from(scores, (score = least) => Math.min(0, score));
}

/** ln(eᵃ + eᵇ), also of numbers whose exponentials are too small for a double. */
function logOfSum(a: number | undefined, b: number): number {
  if (a === undefined) return b;
  return Math.max(a, b) + Math.log1p(Math.exp(-Math.abs(a - b)));
}
