import { setTimeout as sleep } from 'node:timers/promises';

export class GaveUpError extends Error {
  override readonly name = 'GaveUpError';
}

/**
 * Looks again and again until there is a result.
 * @throws GaveUpError when there is none in time
 */
export async function until<Result>(
  what: string,
  look: () => Promise<Result | undefined | null | false>,
  { timeoutMs = 60_000, everyMs = 50 } = {},
): Promise<Result> {
  const deadline = Date.now() + timeoutMs;
  for (;;) {
    const found = await look();
    if (found) return found;
    if (Date.now() > deadline) throw new GaveUpError(`${what}: not within ${timeoutMs / 1000} s`);
    await sleep(everyMs);
  }
}
