import { InvalidRequestError } from '../errors.js';
import { quoted } from './label-text.js';
import type { Split } from './manifest.js';
import { splitNamed } from './split-names.js';

/** One entry of a list of images, whatever the list's format. */
export interface ListedImage {
  line: number;
  /** A data URI, a URL, or a name in the ZIP. */
  image: string;
  label: string;
  /** Null where the entry does not say. */
  split: Split | 'test' | null;
  /** Of its class; null where the entry has none. */
  description: string | null;
}

/** What keeps a list from exhausting the server. */
export interface ListLimits {
  maxLines: number;
  maxLineBytes: number;
}

export type ListFormat = 'jsonl' | 'csv';

/** The names that data sets in the wild use for the image of an entry; of several, the first one here counts. */
export const IMAGE_COLUMNS = ['image', 'file_name', 'filename', 'file', 'path', 'image_path', 'url'];
/** The names they use for its class. */
export const LABEL_COLUMNS = ['label', 'class', 'class_name', 'category', 'text'];

/** @throws InvalidRequestError */
export function splitOfEntry(value: unknown, line: number, format: ListFormat): ListedImage['split'] {
  if (value === undefined || value === null || value === '') return null;
  const split = typeof value === 'string' ? splitNamed(value) : undefined;
  if (split === undefined) {
    const shown = typeof value === 'string' ? ` (${quoted(value)})` : '';
    throw invalidLine(format, line, `has a "split" other than "train", "validation" and "test"${shown}.`);
  }
  return split;
}

export function invalidLine(format: ListFormat, line: number, fault: string): InvalidRequestError {
  return new InvalidRequestError({ code: `invalid_${format}`, param: 'file', message: `Line ${line} ${fault}` });
}

export function lineTooLong(line: number, maxLineBytes: number): InvalidRequestError {
  return new InvalidRequestError({
    code: 'line_too_long',
    param: 'file',
    message: `Line ${line} has more than ${maxLineBytes} bytes. Scale its image down, or upload a ZIP.`,
  });
}
