import { InvalidRequestError, PayloadTooLargeError } from '../errors.js';
import { ImageRefused, tooLarge } from './image-check.js';
import { normalUrl, shownUrl } from './image-url.js';
import type { DatasetLimits } from './limits.js';
import { printable } from './report.js';

/**
 * Gets the bytes behind an http or https URL. It throws an error with a `reason` (`image_url_refused`: not an allowed
 * address; `image_url_unreachable`: status, time-out, connection; `image_too_large`) when they cannot be had.
 */
export type FetchImage = (url: string, options: { maxBytes: number; signal?: AbortSignal }) => Promise<Buffer>;

/** Of what is said of an image that cannot be had; it comes from outside and is kept for every line. */
const MAX_MESSAGE_LENGTH = 300;

const REFUSALS = ['image_url_refused', 'image_url_unreachable', 'image_too_large'] as const;

/** Fetches the images of one upload, within the limits of it. */
export class ImageFetcher {
  private readonly stopped = new AbortController();
  private deadline: AbortSignal | null = null;
  private signal: AbortSignal = this.stopped.signal;
  private bytes = 0;

  constructor(
    private readonly fetchImage: FetchImage,
    private readonly limits: DatasetLimits,
  ) {}

  /** @throws ImageRefused, InvalidRequestError (out of time) or PayloadTooLargeError (out of bytes) */
  async load(text: string): Promise<Buffer> {
    const { maxImageBytes, maxFetchSeconds } = this.limits;
    const url = normalUrl(text);
    this.startClock();
    try {
      this.signal.throwIfAborted();
      const bytes = await this.fetchImage(url, { maxBytes: maxImageBytes, signal: this.signal });
      this.count(bytes.length);
      return bytes;
    } catch (error) {
      if (this.deadline?.aborted) throw tooSlow(maxFetchSeconds);
      throw this.toRefusal(error, url);
    }
  }

  /** Ends what is under way. */
  stop(): void {
    this.stopped.abort();
  }

  private startClock(): void {
    if (this.deadline) return;
    this.deadline = AbortSignal.timeout(this.limits.maxFetchSeconds * 1000);
    this.signal = AbortSignal.any([this.stopped.signal, this.deadline]);
  }

  private toRefusal(error: unknown, url: string): unknown {
    const reason = REFUSALS.find((known) => known === (error as { reason?: unknown } | null)?.reason);
    if (reason === undefined) return error;
    if (reason === 'image_too_large') {
      // How much came before it was given up is not known; it is not nothing.
      this.count(this.limits.maxImageBytes);
      return tooLarge(null, this.limits);
    }
    const { message } = error as Error;
    return new ImageRefused(reason, printable(message.replaceAll(url, shownUrl(url)), MAX_MESSAGE_LENGTH));
  }

  private count(bytes: number): void {
    this.bytes += bytes;
    if (this.bytes > this.limits.maxExpandedBytes) throw imagesTooLarge(this.limits);
  }
}

export function imagesTooLarge({ maxExpandedBytes }: DatasetLimits): PayloadTooLargeError {
  return new PayloadTooLargeError({
    code: 'expanded_too_large',
    param: 'file',
    message: `The images have more than ${maxExpandedBytes} bytes. Upload fewer or smaller images.`,
  });
}

function tooSlow(maxFetchSeconds: number): InvalidRequestError {
  return new InvalidRequestError({
    code: 'image_urls_too_slow',
    param: 'file',
    message: `The images could not be fetched from their URLs within ${maxFetchSeconds} seconds. Upload them in a ZIP.`,
  });
}
