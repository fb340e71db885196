import { createReadStream } from 'node:fs';
import { InvalidRequestError } from '../errors.js';
import type { Candidate } from './candidate.js';
import { quoted } from './label-text.js';
import type { DatasetLimits } from './limits.js';
import { readListedImages } from './list-reader.js';
import { type CandidateContext, ListedCandidates, type ListPlace } from './listed-candidates.js';
import type { ListFormat, ListLimits } from './listed-image.js';

const LINE_OVERHEAD = 64 * 1024;

/** The images of a list that was uploaded by itself: all of them embedded in it, or behind URLs. */
export async function* listUploadCandidates(
  path: string,
  format: ListFormat,
  context: CandidateContext,
): AsyncGenerator<Candidate> {
  const chunks = createReadStream(path, { highWaterMark: 256 * 1024 });
  const listed = new ListedCandidates(context);
  yield* listed.read(readListedImages(format, chunks, listLimits(context.limits)), ALONE);
  listed.finish();
}

const ALONE: ListPlace = {
  suffix: '',
  splitOf: () => 'train',
  find({ image, line }) {
    throw new InvalidRequestError({
      code: 'image_not_embedded',
      param: 'file',
      message:
        `Line ${line} names the image ${quoted(image)} instead of having it in itself. Embed it as a data ` +
        'URI (data:image/png;base64,…), or upload a ZIP with this list and the images.',
    });
  },
};

/** An embedded image takes four thirds of its bytes. */
export function listLimits({ maxEntries, maxImageBytes }: DatasetLimits): ListLimits {
  return { maxLines: maxEntries, maxLineBytes: Math.ceil((maxImageBytes * 4) / 3) + LINE_OVERHEAD };
}
