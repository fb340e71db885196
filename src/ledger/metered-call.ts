import { setTimeout as sleep } from 'node:timers/promises';
import type { BilledAmounts } from '../providers/provider.js';
import { ProviderCallError } from '../providers/provider-call-error.js';
import type { Ledger } from './ledger.js';
import {
  type PaidAnswer,
  type PaidEmbeddings,
  type Reservation,
  ReservationRefusedError,
  type ReservationRequest,
} from './reservation.js';

/** One provider call with what the ledger needs to know of it. */
export interface MeteredCall<Answer> {
  reservation: ReservationRequest;
  send(): Promise<{ answer: Answer; billed: BilledAmounts | null }>;
  /** The form in which the answer is stored with its settlement, where it is. */
  keep?(answer: Answer): PaidAnswer | undefined;
  /** The same of embeddings of images. */
  keepEmbeddings?(answer: Answer): PaidEmbeddings;
  /** Texts that it has embedded. */
  texts?: number;
  /** The answer does not wait for a settlement that stores nothing with it. */
  settleLater?: boolean;
}

/** How often and how long a call that failed for a passing reason is tried again. */
export interface RetryPolicy {
  maxAttempts: number;
  baseDelayMs: number;
  maxDelayMs: number;
  /** The longest Retry-After that is waited for. */
  maxRetryAfterMs: number;
}

/** A caller of the predict endpoint waits on the line, so patience is short. */
export const PREDICTION_RETRIES: RetryPolicy = {
  maxAttempts: 3,
  baseDelayMs: 100,
  maxDelayMs: 1_000,
  maxRetryAfterMs: 2_000,
};

/**
 * Sends a call once under the ledger: reserve, send, and close by how it went.
 * @throws LimitReachedError, ReservationRefusedError, DeadlinePassedError (nothing sent), or a ProviderCallError
 */
export async function attemptCall<Answer>(ledger: Ledger, call: MeteredCall<Answer>): Promise<Answer> {
  const reservation = await ledger.reserve(call.reservation);
  const { answer, billed } = await call.send().catch(async (failure: unknown) => {
    await closeFailed(ledger, reservation, failure, call.texts);
    throw failure;
  });
  const outcome = {
    billed,
    answer: call.keep?.(answer),
    embeddings: call.keepEmbeddings?.(answer),
    texts: call.texts,
  };
  if (call.settleLater && !outcome.answer && !outcome.embeddings) {
    ledger.settleLater(reservation, outcome);
    return answer;
  }
  const settled = await ledger.settle(reservation, outcome);
  if (!settled && reservation.epoch !== null) {
    throw new ReservationRefusedError(`${call.reservation.accountId} was taken over while its provider answered.`);
  }
  return answer;
}

/**
 * Sends a call, and again after failures that may pass. One that was not answered in time is sent again only where
 * that cannot be billed twice: its caller has waited for all of the time-out, and decides whether to pay once more.
 * @throws as {@link attemptCall}
 */
export async function meteredCall<Answer>(
  ledger: Ledger,
  call: MeteredCall<Answer>,
  policy: RetryPolicy,
): Promise<Answer> {
  for (let attempt = 1; ; attempt++) {
    try {
      return await attemptCall(ledger, call);
    } catch (failure) {
      if (!(failure instanceof ProviderCallError) || !failure.retryable || attempt >= policy.maxAttempts) throw failure;
      if (isPaidSilence(failure) && !call.reservation.purchase) throw failure;
      const delay = retryDelayMs(failure, attempt, policy);
      if (delay === null) throw failure;
      await sleep(delay);
    }
  }
}

/** A provider took a call, may bill it, and said nothing within its time-out. */
function isPaidSilence({ code, billing }: ProviderCallError): boolean {
  return code === 'provider_timeout' && billing !== 'unbilled';
}

async function closeFailed(
  ledger: Ledger,
  reservation: Reservation,
  failure: unknown,
  texts: number | undefined,
): Promise<void> {
  const billing = failure instanceof ProviderCallError ? failure.billing : 'unknown';
  const reason = failure instanceof ProviderCallError ? failure.code : 'internal_error';
  if (billing === 'unbilled') await ledger.release(reservation, reason);
  else if (billing === 'billed') await ledger.settle(reservation, { reason, texts });
  else await ledger.leaveUnknown(reservation, reason, texts);
}

/** Exponential back-off with full jitter, never shorter than the provider asked; null when it asked for too long. */
export function retryDelayMs(failure: ProviderCallError, attempt: number, policy: RetryPolicy): number | null {
  const asked = (failure.retryAfterSeconds ?? 0) * 1000;
  if (asked > policy.maxRetryAfterMs) return null;
  const ceiling = Math.min(policy.maxDelayMs, policy.baseDelayMs * 2 ** (attempt - 1));
  return Math.max(asked, Math.random() * ceiling);
}
