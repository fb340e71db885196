import { createHash } from 'node:crypto';
import sharp, { type Sharp } from 'sharp';
import type { ProviderImage } from './provider.js';
import type { ImageSize } from './settings/common.js';

/** Bytes of scaled images, and characters of encoded ones, that are kept of one provider's to be sent again. */
const KEPT_BYTES = 64 * 1024 * 1024;
/** The same of all that this process is connected to. */
const KEPT_BYTES_IN_ALL = 256 * 1024 * 1024;
const WHITE = '#ffffff';
/** Changes with the pixels that scaling makes of an image; a part of what kept embeddings are known by. */
export const SCALING_VERSION = 'upright';

/** Images in the form in which a provider gets them: as they are, or scaled to its input size, each once. */
export class ImageEncoder {
  private readonly scaled = new Kept<Buffer>();
  private readonly base64s = new Kept<string>();

  constructor(private readonly size: ImageSize | undefined) {}

  /** Lets go of all that is kept. */
  clear(): void {
    this.scaled.clear();
    this.base64s.clear();
  }

  /** The image file. */
  async encoded(image: ProviderImage): Promise<Buffer> {
    const { size } = this;
    if (!size) return image.bytes();
    return this.scaled.once(image.sha256, async () =>
      scaled(await image.bytes(), size)
        .png()
        .toBuffer(),
    );
  }

  /** SHA-256 of the encoded image, in hexadecimal. */
  async encodedSha256(image: ProviderImage): Promise<string> {
    if (!this.size) return image.sha256;
    return createHash('sha256')
      .update(await this.encoded(image))
      .digest('hex');
  }

  async base64(image: ProviderImage): Promise<string> {
    return this.base64s.once(image.sha256, async () => (await this.encoded(image)).toString('base64'));
  }

  async dataUri(image: ProviderImage): Promise<string> {
    const base64 = await this.base64(image);
    return `data:${mediaTypeOf(Buffer.from(base64.slice(0, 16), 'base64'))};base64,${base64}`;
  }
}

/** What was made of images, by their SHA-256; dropped as a whole when it, or all that is kept, becomes too much. */
class Kept<Form extends { length: number }> {
  private static readonly all = new Set<Kept<{ length: number }>>();
  private readonly forms = new Map<string, Promise<Form>>();
  private size = 0;

  once(sha256: string, make: () => Promise<Form>): Promise<Form> {
    const known = this.forms.get(sha256);
    if (known) return known;
    const making = make();
    this.forms.set(sha256, making);
    making.then(
      ({ length }) => this.count(length),
      () => this.forms.delete(sha256),
    );
    return making;
  }

  clear(): void {
    this.forms.clear();
    this.size = 0;
    Kept.all.delete(this);
  }

  private count(length: number): void {
    this.size += length;
    Kept.all.add(this);
    if (this.size > KEPT_BYTES) this.clear();
    const inAll = [...Kept.all].sort((a, b) => b.size - a.size);
    const total = inAll.reduce((sum, { size }) => sum + size, 0);
    if (total > KEPT_BYTES_IN_ALL) inAll[0].clear();
  }
}

/** An image, upright as its EXIF orientation says, on white, scaled. */
export function scaled(bytes: Buffer, { width, height, fit, kernel }: ImageSize): Sharp {
  // Images that a decoder only warns of were taken in.
  return sharp(bytes, { failOn: 'error' })
    .autoOrient()
    .flatten({ background: WHITE })
    .toColourspace('srgb')
    .resize(width, height, { fit, kernel, background: WHITE, withoutEnlargement: fit === 'inside' });
}

/** The media type by the file's first bytes; images were checked when they were taken in. */
function mediaTypeOf(bytes: Buffer): string {
  const start = bytes.toString('latin1', 0, 12);
  if (start.startsWith('\x89PNG')) return 'image/png';
  if (start.startsWith('GIF8')) return 'image/gif';
  if (start.startsWith('RIFF')) return 'image/webp';
  return 'image/jpeg';
}
