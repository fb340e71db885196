import { ImageRefused } from './image-check.js';

/** Signed addresses are long; what is longer than this is none that a server takes. */
const MAX_URL_LENGTH = 8192;

/** A URL as it may be shown: without user info, query and fragment, which may hold a secret. */
export function shownUrl(text: string): string {
  try {
    const { protocol, host, pathname } = new URL(text.trim());
    return `${protocol}//${host}${pathname}`;
  } catch {
    return 'an invalid URL';
  }
}

/**
 * An http or https URL in its one normal form.
 * @throws ImageRefused
 */
export function normalUrl(text: string): string {
  if (text.length > MAX_URL_LENGTH) {
    throw new ImageRefused('image_url_refused', `Its URL has more than ${MAX_URL_LENGTH} characters.`);
  }
  let url: URL;
  try {
    url = new URL(text.trim());
  } catch {
    throw new ImageRefused('image_url_refused', 'Its URL is not valid.');
  }
  if (url.protocol !== 'http:' && url.protocol !== 'https:') {
    throw new ImageRefused('image_url_refused', 'Only http and https URLs are fetched. Put the image into a ZIP.');
  }
  url.hash = '';
  return url.href;
}
