import { createHash } from 'node:crypto';
import sharp, { type Sharp } from 'sharp';
import type { ProviderImage } from '../providers/provider.js';
import { KeptViews } from './kept-views.js';
import { Room } from './room.js';
import { type Transform, transformPixels } from './transforms.js';
import { distinctWindow, drawnWindow } from './windows.js';

/**
 * Views of an image: what a black box is asked about in place of the image, so that a head learns, or a prediction
 * averages over, what does not matter. Pixels are cut out and mirrored, never resampled: scaling to the size of its input is
 * the black box's own business.
 */

/** Of a source that is compressed with losses already. */
const JPEG_QUALITY = 95;
/** Pixels of a side that a JPEG may have, in a view that adds a quarter to its image. */
const LONGEST_JPEG_SIDE = 65_500 / 1.25;
/** Of a view that is too large otherwise. */
const SMALLER_QUALITIES = [95, 85, 70, 50, 30];
/** More pixels are no image that a provider would take. What a decoder only warns of was taken in, too. */
const READING = { limitInputPixels: 100_000_000, failOn: 'error' } as const;

/** Pixels of the images in this process that views are made of at a time: each takes some bytes several times over. */
const room = new Room(64_000_000);
/** Views that are kept to be sent, of all jobs and predictions in this process; others are made again. */
const shared = new KeptViews(128 * 1024 * 1024);

/**
 * The image and the number of a view decide its pixels, whatever the job: where embeddings are kept, jobs on the same images
 * share them.
 */
export class ImageViews {
  /** @param windows drawn: as in versions up to 0.5.1, whose jobs go on as they began */
  constructor(
    private readonly windows: 'distinct' | 'drawn' = 'distinct',
    private readonly kept = shared,
  ) {}

  /**
   * View 0 is the image itself, view 1 its mirror image; after them every odd view is mirrored, and each shows a window of
   * 85 % to 100 % of each side, another one than those before it.
   * @param transform what is made of the view then
   * @param mostBytes a view that is larger is compressed further, with losses, until it fits where it can
   */
  async view(
    image: ProviderImage,
    index: number,
    transform: Transform = 'identity',
    mostBytes = Number.POSITIVE_INFINITY,
  ): Promise<ProviderImage> {
    if (index === 0 && transform === 'identity') return image;
    const key = `${image.sha256}/${this.windows}/${index}/${transform}/${mostBytes}`;
    const make = () => this.make(image, index, transform, mostBytes);
    const bytes = await make();
    this.kept.set(key, bytes);
    return {
      sha256: createHash('sha256').update(bytes).digest('hex'),
      size: bytes.length,
      bytes: async () => this.kept.get(key) ?? make(),
    };
  }

  private async make(image: ProviderImage, index: number, transform: Transform, mostBytes: number): Promise<Buffer> {
    const source = await image.bytes();
    const { format, autoOrient: upright } = await sharp(source, READING).metadata();
    const windowOf = this.windows === 'distinct' ? distinctWindow : drawnWindow;
    const window = windowOf(image.sha256, index, upright);
    return room.use(upright.width * upright.height, async () => {
      const cut = sharp(source, READING).autoOrient().extract(window);
      const view = index % 2 === 1 ? cut.flop() : cut;
      const transformed = transform === 'identity' ? view : await transformPixels(view, transform);
      const asJpeg = Math.max(upright.width, upright.height) <= LONGEST_JPEG_SIDE;
      return encoded(transformed, { asJpeg, withLosses: format === 'jpeg' }, mostBytes);
    });
  }
}

/** @param may whether it has losses, as its source has, and whether it can be a JPEG at all */
async function encoded(view: Sharp, may: { withLosses: boolean; asJpeg: boolean }, mostBytes: number): Promise<Buffer> {
  const asJpeg = (quality: number) =>
    view.clone().flatten({ background: '#ffffff' }).jpeg({ quality, chromaSubsampling: '4:4:4' }).toBuffer();
  let bytes = await (may.withLosses && may.asJpeg ? asJpeg(JPEG_QUALITY) : view.clone().png().toBuffer());
  for (const quality of may.asJpeg ? SMALLER_QUALITIES : []) {
    if (bytes.length <= mostBytes) break;
    bytes = await asJpeg(quality);
  }
  return bytes;
}
