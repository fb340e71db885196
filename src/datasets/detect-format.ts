import { open } from 'node:fs/promises';
import { InvalidRequestError } from '../errors.js';
import { firstLine, MAX_HEADER_BYTES } from './csv.js';
import { readCsvHeader } from './csv-header.js';
import type { ListFormat } from './listed-image.js';

export type DatasetFormat = 'zip' | ListFormat;

export const MEDIA_TYPES: Record<DatasetFormat, string> = {
  zip: 'application/zip',
  jsonl: 'application/jsonl',
  csv: 'text/csv',
};

/** A first entry, the end of an empty ZIP, the mark of a split one. */
const ZIP_STARTS = ['PK\x03\x04', 'PK\x05\x06', 'PK\x07\x08'];

/**
 * Tells what was uploaded from its first bytes; names and declared types are not to be trusted.
 * @throws InvalidRequestError when it is empty or none of them
 */
export async function detectFormat(path: string): Promise<DatasetFormat> {
  const file = await open(path, 'r');
  try {
    const { buffer, bytesRead } = await file.read(Buffer.alloc(MAX_HEADER_BYTES), 0, MAX_HEADER_BYTES, 0);
    if (bytesRead === 0) {
      throw new InvalidRequestError({
        code: 'empty_file',
        param: 'file',
        message: 'The file is empty. Upload a ZIP, a JSONL or a CSV with at least two classes.',
      });
    }
    const start = buffer.subarray(0, bytesRead).toString('latin1');
    if (ZIP_STARTS.some((signature) => start.startsWith(signature))) return 'zip';
    if (/^(\xef\xbb\xbf)?\s*\{/.test(start)) return 'jsonl';
    if (looksLikeCsv(buffer.subarray(0, bytesRead).toString('utf8'))) return 'csv';
    throw new InvalidRequestError({
      code: 'unsupported_file_format',
      param: 'file',
      message:
        'The file is neither a ZIP nor a JSONL nor a CSV. Upload a ZIP with one folder of images per class, a JSONL with ' +
        'one {"image": "data:image/png;base64,…", "label": "…"} per line, or a CSV whose first line names the columns ' +
        'image and label.',
    });
  } finally {
    await file.close();
  }
}

/** A CSV has no signature: it is one when its first line names the image or the class as some data set does. */
function looksLikeCsv(start: string): boolean {
  const { image, label } = readCsvHeader(firstLine(start));
  return image >= 0 || label >= 0;
}
