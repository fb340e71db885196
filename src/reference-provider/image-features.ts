import sharp from 'sharp';
import { InvalidRequestError, NotFoundError } from '../errors.js';
import { type ImageInput, REFERENCE } from './image-input.js';
import { LruCache } from './lru.js';
import type { ModelConfig } from './model-files.js';
import type { TowerThreads } from './tower-threads.js';

/** 404: the request names images by their hash that were not sent before, or were forgotten since. */
export class UnknownImagesError extends NotFoundError {
  constructor(readonly missing: string[]) {
    super({
      code: 'unknown_images',
      message: `${missing.length} of the referenced images are not known here (any more); send their bytes.`,
      param: 'images',
    });
  }
}

const MAX_PIXELS = 50_000_000;
/** Images of one run of the vision tower. More gain nothing. */
const IMAGES_PER_RUN = 8;

/** The vision tower behind a cache of features by content hash. */
export class ImageFeatures {
  private readonly cache: LruCache<Promise<Float32Array>>;

  private constructor(
    private readonly towers: TowerThreads,
    private readonly config: ModelConfig,
    maxCachedImages: number,
    private readonly imagesPerRun: number,
  ) {
    this.cache = new LruCache(maxCachedImages);
  }

  static async open(towers: TowerThreads, config: ModelConfig, maxCachedImages: number): Promise<ImageFeatures> {
    const imagesPerRun = (await givesSameBitsTogether(towers, config)) ? IMAGES_PER_RUN : 1;
    return new ImageFeatures(towers, config, maxCachedImages, imagesPerRun);
  }

  /**
   * L2-normalised features [images, embed_dim] of images (PNG, JPEG, WebP, GIF).
   * @throws UnknownImagesError before anything is computed, when a reference is not known.
   * @throws InvalidRequestError when an image cannot be decoded.
   */
  async of(inputs: ImageInput[]): Promise<Float32Array> {
    const features = await Promise.all(this.lookUp(inputs));
    const width = this.config.embed_dim;
    const rows = new Float32Array(inputs.length * width);
    for (const [i, row] of features.entries()) rows.set(row, i * width);
    return rows;
  }

  clear(): void {
    this.cache.clear();
  }

  private lookUp(inputs: ImageInput[]): Promise<Float32Array>[] {
    const sent = new Set(inputs.filter((input) => input.bytes !== undefined).map((input) => input.hash));
    const held = new Map<string, Promise<Float32Array>>();
    const missing = new Set<string>();
    for (const { hash } of inputs) {
      const known = held.get(hash) ?? this.cache.get(hash);
      if (known !== undefined) held.set(hash, known);
      else if (!sent.has(hash)) missing.add(REFERENCE + hash);
    }
    if (missing.size > 0) throw new UnknownImagesError([...missing]);
    const fresh = new Map<string, { bytes: Uint8Array; position: number; field?: string }>();
    for (const [position, { hash, bytes, field }] of inputs.entries()) {
      if (bytes !== undefined && !held.has(hash) && !fresh.has(hash)) fresh.set(hash, { bytes, position, field });
    }
    const computed = this.compute([...fresh.values()].map(({ bytes }) => bytes));
    for (const [i, [hash, { position, field }]] of [...fresh].entries()) {
      const pending = computed[i].catch((error: unknown) => {
        throw error instanceof DecodingError ? unreadable(error, position, field) : error;
      });
      held.set(hash, pending);
      this.cache.set(hash, pending);
      pending.catch(() => this.cache.delete(hash));
    }
    return inputs.map(({ hash }) => held.get(hash) as Promise<Float32Array>);
  }

  /** The features [embed_dim] of each file. */
  private compute(files: Uint8Array[]): Promise<Float32Array>[] {
    const runs: Promise<PromiseSettledResult<Float32Array>[]>[] = [];
    for (let start = 0; start < files.length; start += this.imagesPerRun) {
      runs.push(this.run(files.slice(start, start + this.imagesPerRun)));
    }
    return files.map(async (_, i) => {
      const outcome = (await runs[Math.floor(i / this.imagesPerRun)])[i % this.imagesPerRun];
      if (outcome.status === 'rejected') throw outcome.reason;
      return outcome.value;
    });
  }

  /** Runs hold either as many images as was found to change nothing, or one. */
  private async run(files: Uint8Array[]): Promise<PromiseSettledResult<Float32Array>[]> {
    const decoded = await Promise.allSettled(files.map((bytes) => this.pixelValues(bytes)));
    const values = decoded.flatMap((outcome) => (outcome.status === 'fulfilled' ? [outcome.value] : []));
    const together =
      values.length === this.imagesPerRun ? runTogether(this.towers, values, this.config.embed_dim) : null;
    return Promise.allSettled(
      decoded.map(async (outcome, i) => {
        if (outcome.status === 'rejected') throw outcome.reason;
        return together ? (await together)[i] : this.towers.run({ tower: 'vision', pixels: outcome.value });
      }),
    );
  }

  /** Decoded, flattened on white, resized and normalised pixels [3, size, size]. */
  private async pixelValues(bytes: Uint8Array): Promise<Float32Array> {
    const { size, mean, std } = this.config.image;
    if (!hasKnownSignature(bytes)) throw new DecodingError('it is not a PNG, JPEG, WebP or GIF file');
    const rgb = await sharp(bytes, { limitInputPixels: MAX_PIXELS, failOn: 'error' })
      .flatten({ background: '#ffffff' })
      .resize(size, size, { fit: 'fill', kernel: 'linear' })
      .toColourspace('srgb')
      .raw()
      .toBuffer()
      .catch((error: Error) => {
        throw new DecodingError(error.message);
      });
    const plane = size * size;
    const values = new Float32Array(3 * plane);
    for (let channel = 0; channel < 3; channel++) {
      for (let i = 0; i < plane; i++) {
        values[channel * plane + i] = (rgb[3 * i + channel] / 255 - mean[channel]) / std[channel];
      }
    }
    return values;
  }
}

// sharp reads more formats (SVG, TIFF, …) than a service should open to strangers.
function hasKnownSignature(bytes: Uint8Array): boolean {
  const head = Buffer.from(bytes.buffer, bytes.byteOffset, Math.min(bytes.byteLength, 12)).toString('latin1');
  return (
    head.startsWith('\x89PNG\r\n\x1a\n') ||
    head.startsWith('\xff\xd8\xff') ||
    head.startsWith('GIF8') ||
    (head.startsWith('RIFF') && head.slice(8) === 'WEBP')
  );
}

class DecodingError extends Error {}

function unreadable(cause: DecodingError, position: number, field: string | undefined): InvalidRequestError {
  return new InvalidRequestError({
    code: 'unreadable_image',
    message: `${field ?? `images[${position}]`} cannot be decoded: ${cause.message}.`,
    param: field ?? 'images',
    cause,
  });
}

/** @param images of pixels [3, size, size] @returns features [embed_dim] of each */
async function runTogether(towers: TowerThreads, images: Float32Array[], width: number): Promise<Float32Array[]> {
  const plane = images[0].length;
  const pixels = new Float32Array(images.length * plane);
  for (const [i, image] of images.entries()) pixels.set(image, i * plane);
  const features = await towers.run({ tower: 'vision', pixels });
  return images.map((_, i) => features.slice(i * width, (i + 1) * width));
}

/**
 * Whether images that share a run get the same bits as alone, which depends on the processor: an answer must not depend
 * on which images a request has.
 */
async function givesSameBitsTogether(towers: TowerThreads, { image, embed_dim: width }: ModelConfig): Promise<boolean> {
  const plane = 3 * image.size ** 2;
  const images = Array.from({ length: IMAGES_PER_RUN }, (_, i) =>
    Float32Array.from({ length: plane }, (__, k) => 2 * Math.sin(k * (i + 1))),
  );
  const together = await runTogether(towers, images, width);
  const alone = await Promise.all(images.map((pixels) => towers.run({ tower: 'vision', pixels })));
  return alone.every((features, i) => features.every((value, k) => Object.is(value, together[i][k])));
}
