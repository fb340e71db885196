import { createHash } from 'node:crypto';
import { InvalidRequestError, PayloadTooLargeError } from '../errors.js';
import { decodeBase64, isRemoteUrl } from './data-uri.js';
import { type ImageFacts, ImageRefused, inspectImage } from './image-check.js';
import { type ImageLimits, MAX_REQUEST_PIXELS } from './limits.js';

/** An image of a request that decodes. */
export interface CheckedImage {
  bytes: Buffer;
  sha256: string;
  mediaType: string;
  width: number;
  height: number;
}

/**
 * Reads an image of a request: a data URI with base64, or plain base64.
 * @param param the request field it came in, for the error
 * @throws InvalidRequestError or PayloadTooLargeError (more bytes than allowed)
 */
export async function decodeImageInput(text: string, limits: ImageLimits, param: string): Promise<CheckedImage> {
  if (isRemoteUrl(text)) {
    throw new InvalidRequestError({
      code: 'image_url_not_supported',
      param,
      message: 'Images are not fetched from URLs. Send the image itself as a data URI: data:image/png;base64,….',
    });
  }
  return refusing(param, async () => {
    const bytes = decodeBase64(text, limits);
    return describe(bytes, limits);
  });
}

/**
 * Checks an image that came as bytes.
 * @param param the request field it came in, for the error
 * @throws InvalidRequestError or PayloadTooLargeError (more bytes than allowed)
 */
export async function checkImageBytes(bytes: Buffer, limits: ImageLimits, param: string): Promise<CheckedImage> {
  return refusing(param, () => describe(bytes, limits));
}

/** How many images are decoded before their pixels are added up. */
const DECODED_AT_ONCE = 4;

/**
 * Reads the images of a request.
 * @throws InvalidRequestError or PayloadTooLargeError (an image has more bytes, or all have more pixels, than allowed)
 */
export async function decodeImageInputs(texts: string[], limits: ImageLimits): Promise<CheckedImage[]> {
  const images: CheckedImage[] = [];
  const pixels = new PixelCount();
  for (let first = 0; first < texts.length; first += DECODED_AT_ONCE) {
    const next = texts.slice(first, first + DECODED_AT_ONCE);
    const decoded = await Promise.all(next.map((text, i) => decodeImageInput(text, limits, `images.${first + i}`)));
    for (const image of decoded) pixels.add(image);
    images.push(...decoded);
  }
  return images;
}

/** Adds up the pixels of a request's images. */
export class PixelCount {
  private total = 0;

  /** @throws PayloadTooLargeError when they become more than a request may have */
  add({ width, height }: { width: number; height: number }): void {
    this.total += width * height;
    if (this.total <= MAX_REQUEST_PIXELS) return;
    throw new PayloadTooLargeError({
      code: 'too_many_pixels',
      param: 'images',
      message: `The images have more than ${MAX_REQUEST_PIXELS} pixels in all. Scale them down, or send fewer in a request.`,
    });
  }
}

/** What images turned out to be, by their SHA-256: what was decoded before need not be again. Oldest use first. */
const inspected = new Map<string, ImageFacts>();
const REMEMBERED = 20_000;

async function describe(bytes: Buffer, limits: ImageLimits): Promise<CheckedImage> {
  const sha256 = createHash('sha256').update(bytes).digest('hex');
  const known = inspected.get(sha256);
  const facts = known && isWithin(known, bytes, limits) ? known : await inspectImage(bytes, limits);
  inspected.delete(sha256);
  inspected.set(sha256, facts);
  if (inspected.size > REMEMBERED) inspected.delete(inspected.keys().next().value ?? '');
  return { bytes, sha256, ...facts };
}

/** One that was inspected under wider limits is inspected again, for the error. */
function isWithin(
  { width, height }: ImageFacts,
  bytes: Buffer,
  { maxImageBytes, maxImagePixels }: ImageLimits,
): boolean {
  return bytes.length <= maxImageBytes && width * height <= maxImagePixels;
}

async function refusing(param: string, work: () => Promise<CheckedImage>): Promise<CheckedImage> {
  try {
    return await work();
  } catch (error) {
    if (!(error instanceof ImageRefused)) throw error;
    const detail = { code: error.reason, param, message: `The image was refused. ${error.message}` };
    throw error.reason === 'image_too_large' ? new PayloadTooLargeError(detail) : new InvalidRequestError(detail);
  }
}
