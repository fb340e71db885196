import { type InferenceSession, Tensor } from 'onnxruntime-node';
import sharp from 'sharp';
import { InvalidRequestError, NotFoundError } from '../errors.js';
import { type ImageInput, REFERENCE } from './image-input.js';
import { normaliseRows } from './logits.js';
import { LruCache } from './lru.js';
import type { ModelConfig } from './model-files.js';

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

/** The vision tower behind a cache of features by content hash. */
export class ImageFeatures {
  private readonly cache: LruCache<Promise<Float32Array>>;

  constructor(
    private readonly session: InferenceSession,
    private readonly config: ModelConfig,
    maxCachedImages: number,
  ) {
    this.cache = new LruCache(maxCachedImages);
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
    for (const [i, { hash, bytes, field }] of inputs.entries()) {
      if (bytes === undefined || held.has(hash)) continue;
      const pending = this.compute(bytes).catch((error: unknown) => {
        throw error instanceof DecodingError ? unreadable(error, i, field) : error;
      });
      held.set(hash, pending);
      this.cache.set(hash, pending);
      pending.catch(() => this.cache.delete(hash));
    }
    return inputs.map(({ hash }) => held.get(hash) as Promise<Float32Array>);
  }

  // One image a run: the result cannot depend on which images share a request.
  private async compute(bytes: Uint8Array): Promise<Float32Array> {
    const { size } = this.config.image;
    const pixels = new Tensor('float32', await this.pixelValues(bytes), [1, 3, size, size]);
    const { image_features } = await this.session.run({ pixel_values: pixels });
    const features = image_features.data as Float32Array;
    normaliseRows(features, this.config.embed_dim);
    return features;
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
