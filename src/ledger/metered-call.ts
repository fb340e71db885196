import { setTimeout as sleep } from 'node:timers/promises';
import { ProviderCallError } from '../providers/provider-call-error.js';
import type { Ledger, PaidAnswer, ReservationRequest } from './ledger.js';

/** How often and how long a call that failed for a passing reason is tried again. */
export interface RetryPolicy {
  maxAttempts: number;
  baseDelayMs: number;
  maxDelayMs: number;
  /** The longest Retry-After that is waited for. */
  maxRetryAfterMs: number;
}

export const TRAINING_RETRIES: RetryPolicy = {
  maxAttempts: 12,
  baseDelayMs: 250,
  maxDelayMs: 30_000,
  maxRetryAfterMs: 600_000,
};

/** A caller of the predict endpoint waits on the line, so patience is short. */
export const PREDICTION_RETRIES: RetryPolicy = {
  maxAttempts: 3,
  baseDelayMs: 100,
  maxDelayMs: 1_000,
  maxRetryAfterMs: 2_000,
};

/**
 * Sends one provider call under the ledger: reserve, send, settle; each retry is a reservation of its own, because a
 * call whose outcome is unknown may have been paid for.
 * @param keep the form in which the answer is stored with its settlement, where it is
 * @throws BudgetExceededError, ReservationRefusedError (nothing sent), or the last ProviderCallError
 */
export async function meteredCall<Answer>(
  ledger: Ledger,
  reservation: Omit<ReservationRequest, 'attempt'>,
  policy: RetryPolicy,
  signal: AbortSignal | undefined,
  send: () => Promise<Answer>,
  keep?: (answer: Answer) => PaidAnswer | undefined,
): Promise<Answer> {
  for (let attempt = 1; ; attempt++) {
    const id = await ledger.reserve({ ...reservation, attempt });
    let failure: unknown;
    try {
      const answer = await send();
      await ledger.settle(id, keep?.(answer));
      return answer;
    } catch (error) {
      failure = error;
    }
    await closeFailed(ledger, id, failure);
    if (!(failure instanceof ProviderCallError) || !failure.retryable || attempt >= policy.maxAttempts) throw failure;
    const delay = retryDelayMs(failure, attempt, policy);
    if (delay === null) throw failure;
    await sleep(delay, undefined, { signal }).catch(() => undefined);
    if (signal?.aborted) throw failure;
  }
}

async function closeFailed(ledger: Ledger, id: bigint, failure: unknown): Promise<void> {
  const billing = failure instanceof ProviderCallError ? failure.billing : 'unknown';
  const reason = failure instanceof ProviderCallError ? failure.code : 'internal_error';
  if (billing === 'unbilled') await ledger.release(id, reason);
  else if (billing === 'billed') await ledger.settle(id);
  else await ledger.leaveUnknown(id, reason);
}

/** Exponential back-off with full jitter, never shorter than the provider asked; null when it asked for too long. */
export function retryDelayMs(failure: ProviderCallError, attempt: number, policy: RetryPolicy): number | null {
  const asked = (failure.retryAfterSeconds ?? 0) * 1000;
  if (asked > policy.maxRetryAfterMs) return null;
  const ceiling = Math.min(policy.maxDelayMs, policy.baseDelayMs * 2 ** (attempt - 1));
  return Math.max(asked, Math.random() * ceiling);
}
