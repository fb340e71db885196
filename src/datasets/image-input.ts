import { createHash } from 'node:crypto';
import { InvalidRequestError, PayloadTooLargeError } from '../errors.js';
import { decodeBase64, isRemoteUrl } from './data-uri.js';
import { ImageRefused, inspectImage } from './image-check.js';
import type { ImageLimits } from './limits.js';

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

async function describe(bytes: Buffer, limits: ImageLimits): Promise<CheckedImage> {
  const facts = await inspectImage(bytes, limits);
  return { bytes, sha256: createHash('sha256').update(bytes).digest('hex'), ...facts };
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
