import { isUtf8 } from 'node:buffer';
import { InvalidRequestError } from '../errors.js';
import type { Split } from './dataset.js';

/** One line of a JSONL: `{"image": …, "label": …, "split"?: …}`. */
export interface ListedImage {
  line: number;
  /** A data URI, or a name in the ZIP. */
  image: string;
  label: string;
  split: Split;
}

/**
 * Reads a JSONL a line at a time; empty lines are skipped.
 * @throws InvalidRequestError naming the line that is not as it should be
 */
export async function* readListedImages(
  chunks: AsyncIterable<Buffer> | Iterable<Buffer>,
  limits: { maxLines: number; maxLineBytes: number },
): AsyncGenerator<ListedImage> {
  let count = 0;
  for await (const { line, bytes } of readLines(chunks, limits.maxLineBytes)) {
    if (!isUtf8(bytes)) throw invalidLine(line, 'is not UTF-8 text. Save the file as UTF-8.');
    const text = bytes
      .toString('utf8')
      .replace(/^\ufeff/, '')
      .trim();
    if (text === '') continue;
    if (++count > limits.maxLines) {
      throw new InvalidRequestError({
        code: 'too_many_entries',
        param: 'file',
        message: `The JSONL has more than ${limits.maxLines} lines. Upload fewer images.`,
      });
    }
    yield parseLine(text, line);
  }
}

async function* readLines(
  chunks: AsyncIterable<Buffer> | Iterable<Buffer>,
  maxLineBytes: number,
): AsyncGenerator<{ line: number; bytes: Buffer }> {
  let line = 1;
  let pending: Buffer[] = [];
  let length = 0;
  const keep = (part: Buffer) => {
    length += part.length;
    if (length > maxLineBytes) {
      throw new InvalidRequestError({
        code: 'line_too_long',
        param: 'file',
        message: `Line ${line} has more than ${maxLineBytes} bytes. Scale its image down, or upload a ZIP.`,
      });
    }
    pending.push(part);
  };
  for await (const chunk of chunks) {
    let from = 0;
    for (let at = chunk.indexOf(10); at >= 0; at = chunk.indexOf(10, from)) {
      keep(chunk.subarray(from, at));
      yield { line, bytes: Buffer.concat(pending, length) };
      pending = [];
      length = 0;
      line++;
      from = at + 1;
    }
    if (from < chunk.length) keep(chunk.subarray(from));
  }
  if (length > 0) yield { line, bytes: Buffer.concat(pending, length) };
}

function parseLine(text: string, line: number): ListedImage {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    throw invalidLine(line, 'is not valid JSON. Write one JSON object per line.');
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw invalidLine(line, 'is not a JSON object. Write {"image": …, "label": …}.');
  }
  const { image, label, split = 'train' } = value as Record<string, unknown>;
  if (typeof image !== 'string' || image === '') throw invalidLine(line, 'has no "image" text.');
  if (typeof label !== 'string') throw invalidLine(line, 'has no "label" text.');
  if (split !== 'train' && split !== 'validation') {
    throw invalidLine(line, 'has a "split" other than "train" and "validation".');
  }
  return { line, image, label, split };
}

function invalidLine(line: number, fault: string): InvalidRequestError {
  return new InvalidRequestError({ code: 'invalid_jsonl', param: 'file', message: `Line ${line} ${fault}` });
}
