import { pipeline } from 'node:stream/promises';
import { CsvError, type Options, parse } from 'csv-parse';
import { InvalidRequestError } from '../errors.js';
import { type CsvHeader, readCsvHeader } from './csv-header.js';
import {
  IMAGE_COLUMNS,
  invalidLine,
  LABEL_COLUMNS,
  type ListedImage,
  type ListLimits,
  lineTooLong,
  splitOfEntry,
} from './listed-image.js';
import { printable } from './report.js';

/** A first line that is longer names no columns. */
export const MAX_HEADER_BYTES = 64 * 1024;
const MAX_COLUMNS = 1000;

type Chunks = AsyncIterable<Buffer> | Iterable<Buffer>;

interface CsvRecord {
  record: string[];
  info: { lines: number };
}

/**
 * Reads a CSV (RFC 4180, in UTF-8, separated by commas, semicolons or tabs) whose first line names its columns.
 * @throws InvalidRequestError naming the line that is not as it should be
 */
export async function* readCsv(chunks: Chunks, limits: ListLimits): AsyncGenerator<ListedImage> {
  const { head, rest } = await takeHead(chunks);
  const header = readCsvHeader(firstLine(head));
  requireColumns(header);
  const parser = parse(parserOptions(header.delimiter, limits));
  const feeding = pipeline(utf8Only(rest), parser);
  // What goes wrong there is thrown by the iteration below.
  feeding.catch(() => {});
  let isHeader = true;
  try {
    for await (const { record, info } of parser as AsyncIterable<CsvRecord>) {
      if (!isHeader) yield toListedImage(record, info.lines, header);
      isHeader = false;
    }
  } catch (error) {
    throw toListError(error, limits);
  } finally {
    parser.destroy();
  }
}

/** The first line that is not empty. */
export function firstLine(text: string): string {
  return text.replace(/^\ufeff?\s*/, '').split(/[\r\n]/, 1)[0];
}

/** The beginning of a stream, at least its first line, and the whole of it. */
async function takeHead(chunks: Chunks): Promise<{ head: string; rest: Chunks }> {
  const iterator = (async function* () {
    yield* chunks;
  })();
  const taken: Buffer[] = [];
  let length = 0;
  while (length < MAX_HEADER_BYTES) {
    const next = await iterator.next();
    if (next.done) break;
    taken.push(next.value);
    length += next.value.length;
  }
  const head = decodeHead(Buffer.concat(taken).subarray(0, MAX_HEADER_BYTES));
  const rest = async function* () {
    yield* taken.splice(0);
    yield* iterator;
  };
  return { head, rest: rest() };
}

function parserOptions(delimiter: string, { maxLineBytes }: ListLimits): Options {
  const options: Options & { readableHighWaterMark: number } = {
    bom: true,
    delimiter,
    info: true,
    skip_empty_lines: true,
    max_record_size: maxLineBytes,
    // Empty cells have no size; a record must not grow by them without end.
    cast(value, { index, lines }) {
      if (index >= MAX_COLUMNS) throw invalidLine('csv', lines, `has more than ${MAX_COLUMNS} columns.`);
      return value;
    },
    // A record may hold an embedded image; the default would keep sixteen of them waiting.
    readableHighWaterMark: 1,
  };
  return options;
}

/** The end of it may be half a character. */
function decodeHead(head: Buffer): string {
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(head, { stream: true });
  } catch {
    throw notUtf8();
  }
}

function notUtf8(): InvalidRequestError {
  return new InvalidRequestError({
    code: 'invalid_csv',
    param: 'file',
    message: 'The CSV is not UTF-8 text. Save it as UTF-8.',
  });
}

async function* utf8Only(chunks: Chunks): AsyncGenerator<Buffer> {
  const decoder = new TextDecoder('utf-8', { fatal: true });
  try {
    for await (const chunk of chunks) {
      decoder.decode(chunk, { stream: true });
      yield chunk;
    }
    decoder.decode();
  } catch (error) {
    throw error instanceof TypeError ? notUtf8() : error;
  }
}

function requireColumns({ image, label, names }: CsvHeader): void {
  if (image >= 0 && label >= 0) return;
  const missing = image < 0 ? ['image', IMAGE_COLUMNS] : ['label', LABEL_COLUMNS];
  throw new InvalidRequestError({
    code: 'csv_column_missing',
    param: 'file',
    message:
      `The CSV's first line names no column for the ${missing[0]}: it has "${printable(names.join('", "'), 200)}". ` +
      `Name one of them ${(missing[1] as string[]).join(', ')}; where the folders of a ZIP are the classes, leave the CSV out of it.`,
  });
}

function toListedImage(record: string[], line: number, header: CsvHeader): ListedImage {
  const cell = (index: number) => record[index]?.trim() ?? '';
  const image = cell(header.image);
  if (image === '') throw invalidLine('csv', line, `has no ${header.names[header.image].trim()}.`);
  return {
    line,
    image,
    label: cell(header.label),
    split: splitOfEntry(cell(header.split), line, 'csv'),
    description: cell(header.description) || null,
  };
}

/** The parser's own messages quote what it read; ours name the line and the remedy. */
function toListError(error: unknown, { maxLineBytes }: ListLimits): unknown {
  if (!(error instanceof CsvError)) return error;
  const line = Number((error as { lines?: unknown }).lines);
  if (error.code === 'CSV_MAX_RECORD_SIZE') return lineTooLong(line, maxLineBytes);
  if (error.code === 'CSV_RECORD_INCONSISTENT_FIELDS_LENGTH') {
    return invalidLine('csv', line, 'has not as many cells as the first one. Put quotes around cells with separators.');
  }
  return invalidLine(
    'csv',
    line,
    'has quotes that are not closed or stand in a cell. Write them as "" in a quoted cell.',
  );
}
