import { InvalidRequestError } from '../errors.js';
import { quoted } from './label-text.js';
import { EntryUnreadable, type ZipArchive, type ZipEntry } from './zip-archive.js';

/**
 * A document beside the images of a ZIP, in memory.
 * @throws InvalidRequestError when it is larger than it may be, or damaged
 */
export async function readDocument(
  archive: ZipArchive,
  entry: ZipEntry,
  { maxBytes, remedy }: { maxBytes: number; remedy: string },
): Promise<Buffer> {
  const name = quoted(entry.segments.join('/'));
  if (entry.size > maxBytes) {
    throw new InvalidRequestError({
      code: 'list_too_large',
      param: 'file',
      message: `${name} in the ZIP has more than ${maxBytes} bytes. ${remedy}`,
    });
  }
  try {
    return await archive.read(entry);
  } catch (cause) {
    if (!(cause instanceof EntryUnreadable)) throw cause;
    throw new InvalidRequestError({
      code: 'invalid_zip',
      param: 'file',
      message: `${name} in the ZIP cannot be read. Make the ZIP again.`,
      cause,
    });
  }
}
