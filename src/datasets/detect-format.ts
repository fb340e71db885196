import { open } from 'node:fs/promises';
import { InvalidRequestError } from '../errors.js';

export type DatasetFormat = 'zip' | 'jsonl';

export const MEDIA_TYPES: Record<DatasetFormat, string> = { zip: 'application/zip', jsonl: 'application/jsonl' };

/** A first entry, the end of an empty ZIP, the mark of a split one. */
const ZIP_STARTS = ['PK\x03\x04', 'PK\x05\x06', 'PK\x07\x08'];

/**
 * Tells what was uploaded from its first bytes; names and declared types are not to be trusted.
 * @throws InvalidRequestError when it is empty or neither
 */
export async function detectFormat(path: string): Promise<DatasetFormat> {
  const file = await open(path, 'r');
  try {
    const { buffer, bytesRead } = await file.read(Buffer.alloc(4096), 0, 4096, 0);
    if (bytesRead === 0) {
      throw new InvalidRequestError({
        code: 'empty_file',
        param: 'file',
        message: 'The file is empty. Upload a ZIP or a JSONL with at least two classes.',
      });
    }
    const start = buffer.subarray(0, bytesRead).toString('latin1');
    if (ZIP_STARTS.some((signature) => start.startsWith(signature))) return 'zip';
    if (/^(\xef\xbb\xbf)?\s*\{/.test(start)) return 'jsonl';
    throw new InvalidRequestError({
      code: 'unsupported_file_format',
      param: 'file',
      message:
        'The file is neither a ZIP nor a JSONL. Upload a ZIP with one folder of images per class, or a JSONL with one ' +
        '{"image": "data:image/png;base64,…", "label": "…"} per line.',
    });
  } finally {
    await file.close();
  }
}
