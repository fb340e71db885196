import { z } from 'zod';

/**
 * How large an answer in JSON may be, by what was asked: more is not read, and lists of more items are not looked into,
 * because a validator complains of every item.
 */

const KIB = 1024;
const MIB = 1024 * KIB;
/** For everything in an answer that is none of its scores. */
const ENVELOPE_BYTES = MIB;
/** For a score, with names and fields around it. */
const SCORE_BYTES = KIB;
/** Of a byte of text, written as `\u0000`. */
const ESCAPED_BYTES = 6;
/** Numbers of one embedding. */
const LONGEST_VECTOR = 65_536;
/** The longest double in JSON, with sign and comma. */
const NUMBER_BYTES = 26;
const MOST_EMBEDDINGS_BYTES = 64 * MIB;
const LONGEST_COMPLAINT = 300;

/** Bytes of an answer with a score for every label of every image. */
export function bytesOfScores(labels: string[], imageCount = 1): number {
  const perImage = labels.reduce((sum, label) => sum + SCORE_BYTES + ESCAPED_BYTES * Buffer.byteLength(label), 0);
  return ENVELOPE_BYTES + imageCount * perImage;
}

/** Bytes of an answer with so many log-probabilities of tokens. */
export function bytesOfTokens(count: number): number {
  return ENVELOPE_BYTES + count * SCORE_BYTES;
}

/** Bytes of an answer with so many embeddings. */
export function bytesOfEmbeddings(rows: number): number {
  return Math.min(MOST_EMBEDDINGS_BYTES, ENVELOPE_BYTES + rows * LONGEST_VECTOR * NUMBER_BYTES);
}

/** A list that is looked into only where it has at most so many items. */
export function listOf<Item extends z.ZodType>(item: Item, most: number) {
  const isShort = (value: unknown) => Array.isArray(value) && value.length <= most;
  return z
    .custom<z.input<Item>[]>(isShort, { error: `Invalid input: expected a list of at most ${most} items` })
    .pipe(z.array(item));
}

/** One embedding; whatever is wrong with it is one complaint. */
export const vector = z.custom<number[]>(
  (value) => Array.isArray(value) && value.length > 0 && value.length <= LONGEST_VECTOR && value.every(Number.isFinite),
  { error: `Invalid input: expected 1 to ${LONGEST_VECTOR} finite numbers` },
);

/** The first of a validator's complaints, in few words: the whole of them may be longer than the answer. */
export function complaintOf({ issues: [issue] }: z.ZodError): string {
  const path = issue.path.map(String).join('.');
  return `${path === '' ? '' : `${path}: `}${issue.message}`.slice(0, LONGEST_COMPLAINT);
}
