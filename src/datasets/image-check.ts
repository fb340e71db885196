import sharp from 'sharp';
import type { ImageLimits } from './limits.js';
import type { RejectionReason } from './report.js';
import { wholeSmallPng } from './whole-png.js';

export interface ImageFacts {
  mediaType: string;
  width: number;
  height: number;
}

/** An image that cannot be taken, and why. */
export class ImageRefused extends Error {
  override readonly name = 'ImageRefused';
  constructor(
    readonly reason: RejectionReason,
    message: string,
  ) {
    super(message);
  }
}

const ACCEPTED_IMAGES = 'PNG, JPEG, WebP or GIF';

const DECODE_SECONDS = 30;

/**
 * Decodes an image completely (of an animation: its first frame).
 * @throws ImageRefused
 */
export async function inspectImage(bytes: Buffer, limits: ImageLimits): Promise<ImageFacts> {
  if (bytes.length === 0) throw new ImageRefused('image_empty', 'The image has no bytes.');
  if (bytes.length > limits.maxImageBytes) throw tooLarge(bytes.length, limits);
  const mediaType = sniffImage(bytes);
  if (mediaType === null) {
    throw new ImageRefused('unsupported_image_format', `It is not a ${ACCEPTED_IMAGES} image. Convert it to one.`);
  }
  const small = mediaType === 'image/png' ? wholeSmallPng(bytes) : null;
  if (small && small.width * small.height <= limits.maxImagePixels) return { mediaType, ...small };
  try {
    // One channel is enough to make every pixel be decoded, and a quarter of the memory.
    const { info } = await sharp(bytes, { failOn: 'error', limitInputPixels: limits.maxImagePixels })
      .timeout({ seconds: DECODE_SECONDS })
      .extractChannel(0)
      .raw()
      .toBuffer({ resolveWithObject: true });
    return { mediaType, width: info.width, height: info.height };
  } catch (error) {
    const message = error instanceof Error ? error.message : '';
    if (/pixel limit/i.test(message)) {
      throw new ImageRefused(
        'image_too_many_pixels',
        `It has more than ${limits.maxImagePixels} pixels. Scale it down.`,
      );
    }
    throw new ImageRefused('image_undecodable', 'It cannot be decoded: it is damaged or cut off. Export it again.');
  }
}

/** @param bytes null when only that they are too many is known */
export function tooLarge(bytes: number | null, { maxImageBytes }: ImageLimits): ImageRefused {
  const size = bytes === null ? `more than ${maxImageBytes} bytes` : `${bytes} bytes, ${maxImageBytes} are allowed`;
  return new ImageRefused('image_too_large', `It has ${size}. Scale it down or compress it.`);
}

/**
 * The media type by the file's first bytes. What is not on this short list never reaches the decoder: fewer decoders
 * are open to attack, and SVG (which can refer to other files) is not among them.
 */
function sniffImage(bytes: Buffer): string | null {
  const start = bytes.toString('latin1', 0, 16);
  if (start.startsWith('\x89PNG\r\n\x1a\n')) return 'image/png';
  if (start.startsWith('\xff\xd8\xff')) return 'image/jpeg';
  if (/^GIF8[79]a/.test(start)) return 'image/gif';
  if (start.startsWith('RIFF') && start.slice(8, 12) === 'WEBP') return 'image/webp';
  return null;
}
