import { InvalidRequestError } from '../errors.js';
import { encodedImage, type ImageInput } from './image-input.js';

const DATA_URI = /^data:[^,;]*(?:;[^,;]+)*;base64,/i;
const BASE64 = /^[A-Za-z0-9+/]+={0,2}$/;

/** An image from base64, bare or in a data URI. @throws InvalidRequestError naming `field`. */
export function imageFromBase64(value: string, field: string): ImageInput {
  return DATA_URI.test(value) ? imageFromDataUri(value, field) : decode(value, field);
}

/** An image from a data URI such as `data:image/png;base64,…`. @throws InvalidRequestError naming `field`. */
export function imageFromDataUri(value: string, field: string): ImageInput {
  const prefix = DATA_URI.exec(value)?.[0];
  if (prefix === undefined) {
    throw invalid(
      field,
      'must be a data URI with base64, such as data:image/png;base64,…; nothing is fetched from URLs',
    );
  }
  return decode(value.slice(prefix.length), field);
}

function decode(base64: string, field: string): ImageInput {
  if (!BASE64.test(base64)) throw invalid(field, 'is no base64; nothing is fetched from URLs');
  return encodedImage(Buffer.from(base64, 'base64'), field);
}

function invalid(field: string, problem: string): InvalidRequestError {
  return new InvalidRequestError({ code: 'invalid_image', message: `${field}: ${problem}.`, param: field });
}
