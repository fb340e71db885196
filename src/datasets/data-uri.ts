import { ImageRefused, tooLarge } from './image-check.js';
import type { ImageLimits } from './limits.js';

/** Whether the text names something on the network or on a disk by URL, rather than being the thing itself. */
export function isRemoteUrl(text: string): boolean {
  return /^\s*(https?:|ftp:|file:|s3:|gs:|[a-z][a-z0-9+.-]*:\/\/)/i.test(text);
}

export function isDataUri(text: string): boolean {
  return /^data:/i.test(text);
}

/**
 * The bytes of a `data:…;base64,…` URI or of plain base64. The declared media type is not looked at.
 * @throws ImageRefused
 */
export function decodeBase64(text: string, limits: ImageLimits): Buffer {
  const payload = isDataUri(text) ? payloadOf(text) : text;
  const digits = payload.replace(/={1,2}$/, '').length;
  const length = Math.floor((digits * 3) / 4);
  if (length > limits.maxImageBytes) throw tooLarge(length, limits);
  // Buffer.from skips what is not base64, which shows in the length; a single digit left over is never valid.
  const bytes = Buffer.from(payload, 'base64');
  if (digits % 4 === 1 || bytes.length !== length) {
    throw new ImageRefused('invalid_base64', 'It is not valid base64 (RFC 4648 section 4, no line breaks).');
  }
  return bytes;
}

function payloadOf(uri: string): string {
  const comma = uri.indexOf(',');
  if (comma < 0 || comma > 256 || !/;base64$/i.test(uri.slice(0, comma))) {
    throw new ImageRefused('invalid_base64', 'A data URI must look like data:image/png;base64,….');
  }
  return uri.slice(comma + 1);
}
