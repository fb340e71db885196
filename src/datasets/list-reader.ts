import { InvalidRequestError } from '../errors.js';
import { readCsv } from './csv.js';
import { readJsonl } from './jsonl.js';
import type { ListedImage, ListFormat, ListLimits } from './listed-image.js';

/**
 * Reads a list of images an entry at a time.
 * @throws InvalidRequestError naming the line that is not as it should be
 */
export async function* readListedImages(
  format: ListFormat,
  chunks: AsyncIterable<Buffer> | Iterable<Buffer>,
  limits: ListLimits,
): AsyncGenerator<ListedImage> {
  let count = 0;
  for await (const item of format === 'csv' ? readCsv(chunks, limits) : readJsonl(chunks, limits)) {
    if (++count > limits.maxLines) {
      throw new InvalidRequestError({
        code: 'too_many_entries',
        param: 'file',
        message: `The list has more than ${limits.maxLines} lines. Upload fewer images.`,
      });
    }
    yield item;
  }
}
