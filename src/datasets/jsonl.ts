import { isUtf8 } from 'node:buffer';
import { readChat } from './chat-line.js';
import {
  IMAGE_COLUMNS,
  invalidLine,
  LABEL_COLUMNS,
  type ListedImage,
  type ListLimits,
  lineTooLong,
  splitOfEntry,
} from './listed-image.js';

/**
 * Reads a JSONL a line at a time; empty lines are skipped. A line is `{"image": …, "label": …, "split"?: …}`, with the
 * names of other tools for these (file_name, text, …) understood, or a conversation (chat-line.ts).
 * @throws InvalidRequestError naming the line that is not as it should be
 */
export async function* readJsonl(
  chunks: AsyncIterable<Buffer> | Iterable<Buffer>,
  { maxLineBytes }: ListLimits,
): AsyncGenerator<ListedImage> {
  for await (const { line, bytes } of readLines(chunks, maxLineBytes)) {
    if (!isUtf8(bytes)) throw invalidLine('jsonl', line, 'is not UTF-8 text. Save the file as UTF-8.');
    const text = bytes
      .toString('utf8')
      .replace(/^\ufeff/, '')
      .trim();
    if (text !== '') yield parseLine(text, line);
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
    if (length > maxLineBytes) throw lineTooLong(line, maxLineBytes);
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
  const fields = parseObject(text, line);
  const fault = (what: string) => invalidLine('jsonl', line, what);
  const { image, label } = 'messages' in fields ? readChat(fields.messages, fault) : readFields(fields, fault);
  return { line, image, label, split: splitOfEntry(fields.split, line, 'jsonl'), description: null };
}

function parseObject(text: string, line: number): Record<string, unknown> {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    throw invalidLine('jsonl', line, 'is not valid JSON. Write one JSON object per line.');
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw invalidLine('jsonl', line, 'is not a JSON object. Write {"image": …, "label": …}.');
  }
  return value as Record<string, unknown>;
}

function readFields(fields: Record<string, unknown>, fault: (what: string) => Error): { image: string; label: string } {
  const named = (names: string[]) => names.find((name) => Object.hasOwn(fields, name)) ?? names[0];
  const image = fields[named(IMAGE_COLUMNS)];
  const label = fields[named(LABEL_COLUMNS)];
  if (typeof image !== 'string' || image === '') throw fault(`has no "${named(IMAGE_COLUMNS)}" text.`);
  if (typeof label === 'number') {
    throw fault(`has the number ${label} as "${named(LABEL_COLUMNS)}". Write the class's name, as text.`);
  }
  if (typeof label !== 'string') throw fault(`has no "${named(LABEL_COLUMNS)}" text.`);
  return { image, label };
}
