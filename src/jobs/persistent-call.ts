import { setTimeout as sleep } from 'node:timers/promises';
import type { Ledger } from '../ledger/ledger.js';
import { attemptCall, type MeteredCall, type RetryPolicy, retryDelayMs } from '../ledger/metered-call.js';
import { type Circuit, PatienceExhaustedError } from '../providers/circuit.js';
import { ProviderCallError } from '../providers/provider-call-error.js';

/** The worker is being shut down: nothing is wrong, another one goes on. */
export class HandedBackError extends Error {
  override readonly name = 'HandedBackError';
}

const RETRIES: Omit<RetryPolicy, 'maxAttempts'> = { baseDelayMs: 250, maxDelayMs: 30_000, maxRetryAfterMs: 600_000 };

/** Paid for and of no use. It is asked for again, as another purchase: the same one would bring the same answer. */
const USELESS_ANSWER = 'provider_answer_invalid';
const MOST_USELESS_ANSWERS = 3;

/**
 * Sends a call of a job until it is answered, as long as the job's patience lasts; retries, probes and waits are the
 * circuit's to allow.
 * @param callAfter the call, when so many answers to it were useless
 * @param probe the smallest call that tells whether the provider answers
 * @throws HandedBackError when `signal` fires; PatienceExhaustedError; ProviderCallError that time does not mend; and as
 *   `attemptCall` throws
 */
export async function persistentCall<Answer>(
  ledger: Ledger,
  circuit: Circuit,
  signal: AbortSignal,
  callAfter: (uselessAnswers: number) => MeteredCall<Answer>,
  probe: () => MeteredCall<unknown>,
): Promise<Answer> {
  let useless = 0;
  for (let attempt = 1; ; attempt++) {
    const admitted = await circuit.admit(signal);
    if (admitted === 'aborted') throw new HandedBackError('The worker is shutting down.');
    let probing = admitted === 'probe';
    try {
      if (probing) {
        await attemptCall(ledger, probe());
        circuit.probeSucceeded();
        probing = false;
      }
      const answer = await attemptCall(ledger, callAfter(useless));
      circuit.succeeded();
      return answer;
    } catch (failure) {
      if (failure instanceof ProviderCallError && failure.code === USELESS_ANSWER && !probing) useless++;
      if (!isPassing(failure) || useless >= MOST_USELESS_ANSWERS) {
        if (probing) circuit.abandonProbe();
        throw failure;
      }
      if (signal.aborted) {
        if (probing) circuit.abandonProbe();
        throw new HandedBackError('The worker is shutting down.', { cause: failure });
      }
      // Images that the provider forgot are sent with the next attempt.
      if (failure.code === 'provider_forgot_images' && attempt === 1 && !probing) continue;
      circuit.failed(failure, probing);
      const delay = retryDelayMs(failure, attempt, { ...RETRIES, maxAttempts: Number.POSITIVE_INFINITY });
      if (delay === null) throw new PatienceExhaustedError(failure);
      if (!circuit.isOpen) await sleep(delay, undefined, { signal }).catch(() => undefined);
    }
  }
}

function isPassing(failure: unknown): failure is ProviderCallError {
  return failure instanceof ProviderCallError && (failure.retryable || failure.code === USELESS_ANSWER);
}
