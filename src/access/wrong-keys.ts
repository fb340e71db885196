import { RateLimitError } from '../errors.js';

const WINDOW_MS = 60_000;
const ALLOWED = 30;
const ADDRESSES = 10_000;

/** Limits guessing: after some wrong keys in a minute an address has to wait, before Postgres is asked again. */
export class WrongKeys {
  private readonly counts = new Map<string, { count: number; until: number }>();

  /** @throws RateLimitError */
  check(address: string): void {
    const entry = this.counts.get(address);
    if (!entry || entry.count < ALLOWED || entry.until <= Date.now()) return;
    throw new RateLimitError({
      code: 'too_many_wrong_keys',
      message: 'Too many requests with wrong API keys came from your address. Check the key and wait a minute.',
      retryAfterSeconds: (entry.until - Date.now()) / 1000,
    });
  }

  note(address: string): void {
    const now = Date.now();
    const entry = this.counts.get(address);
    if (entry && entry.until > now) {
      entry.count++;
      return;
    }
    if (this.counts.size >= ADDRESSES) this.counts.clear();
    this.counts.set(address, { count: 1, until: now + WINDOW_MS });
  }
}
