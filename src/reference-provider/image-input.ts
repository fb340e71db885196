import { createHash } from 'node:crypto';
import { InvalidRequestError } from '../errors.js';

/** An image of a request: its content hash and, unless it was given by reference, its encoded bytes. */
export interface ImageInput {
  /** SHA-256 of the encoded bytes, in hexadecimal. */
  hash: string;
  bytes?: Uint8Array;
  /** Where the request has it, such as `messages.0.content.1`; by default its place in `images`. */
  field?: string;
}

/** An image given by its encoded bytes. */
export function encodedImage(bytes: Uint8Array, field?: string): ImageInput {
  return { hash: createHash('sha256').update(bytes).digest('hex'), bytes, field };
}

export const REFERENCE = 'sha256:';

/** Reads an element of the tensor `images`: encoded bytes, or an ASCII reference `sha256:<64 hex>`. */
export function readImageInput(element: Uint8Array, position: number): ImageInput {
  const start = Buffer.from(element.buffer, element.byteOffset, Math.min(element.byteLength, 80)).toString('latin1');
  if (!start.startsWith(REFERENCE)) {
    return encodedImage(element);
  }
  if (!/^sha256:[0-9a-f]{64}$/.test(start)) {
    throw new InvalidRequestError({
      code: 'invalid_image_reference',
      message: `images[${position}]: a reference is "sha256:" and 64 lower-case hexadecimal digits.`,
      param: 'images',
    });
  }
  return { hash: start.slice(REFERENCE.length) };
}
