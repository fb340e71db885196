import type { FetchImage } from './datasets/image-fetcher.js';
import { AddressNotAllowedError } from './outgoing/address-not-allowed-error.js';
import { ResourceError, type ResourceFailure } from './outgoing/resource-error.js';
import type { ResourceFetcher } from './outgoing/resource-fetcher.js';

/** For one image and all redirects on the way to it. */
const TIMEOUT_MS = 30_000;

const REASONS: Record<ResourceFailure, string> = {
  refused: 'image_url_refused',
  unreachable: 'image_url_unreachable',
  too_large: 'image_too_large',
};

/** Images that uploads name by URL, fetched under the rules for outgoing requests; failures in the words of uploads. */
export function fetchImageBy(fetcher: ResourceFetcher): FetchImage {
  return async (url, { maxBytes, signal }) => {
    try {
      return (await fetcher.fetch(url, { maxBytes, signal, timeoutMs: TIMEOUT_MS })).bytes;
    } catch (error) {
      const failure =
        error instanceof AddressNotAllowedError ? 'refused' : error instanceof ResourceError ? error.failure : null;
      throw failure === null ? error : Object.assign(new Error((error as Error).message), { reason: REASONS[failure] });
    }
  };
}
