import { describe, expect, it } from 'vitest';
import type { Ledger, ReservationRequest } from '../../../src/ledger/ledger.js';
import { meteredCall, retryDelayMs } from '../../../src/ledger/metered-call.js';
import { ProviderCallError } from '../../../src/providers/provider-call-error.js';

const RESERVATION: Omit<ReservationRequest, 'attempt'> = {
  accountId: 'job',
  providerId: 'provider',
  purpose: 'candidates',
  amounts: { promptEvaluations: 1, imageQueries: 2, requests: 1, costMicroUsd: 0 },
  guard: { kind: 'live_provider' },
  worker: 'test',
};
const QUICK = { maxAttempts: 3, baseDelayMs: 1, maxDelayMs: 2, maxRetryAfterMs: 1000 };

/** Records what it is told; the real ledger is tested on a real database. */
function recordingLedger() {
  const log: string[] = [];
  let next = 0n;
  const ledger = {
    reserve: async ({ attempt }: ReservationRequest) => {
      log.push(`reserve ${attempt}`);
      return ++next;
    },
    settle: async (id: bigint) => void log.push(`settle ${id}`),
    release: async (id: bigint, reason: string) => void log.push(`release ${id} ${reason}`),
    leaveUnknown: async (id: bigint, reason: string) => void log.push(`unknown ${id} ${reason}`),
  };
  return { log, ledger: ledger as unknown as Ledger };
}

function failure(billing: 'billed' | 'unbilled' | 'unknown', retryable: boolean, retryAfterSeconds?: number) {
  return new ProviderCallError({ code: 'broken', message: 'broken', billing, retryable, retryAfterSeconds });
}

function failingWith(...failures: Error[]) {
  return async () => {
    const next = failures.shift();
    if (next) throw next;
    return 'answer';
  };
}

describe('meteredCall', () => {
  it('reserves before sending and settles after', async () => {
    const { log, ledger } = recordingLedger();
    const answer = await meteredCall(ledger, RESERVATION, QUICK, undefined, async () => {
      log.push('send');
      return 'answer';
    });
    expect(answer).toBe('answer');
    expect(log).toEqual(['reserve 1', 'send', 'settle 1']);
  });

  it('makes every retry a reservation of its own and closes each by what is known of its payment', async () => {
    const { log, ledger } = recordingLedger();
    const send = failingWith(failure('unknown', true), failure('unbilled', true));
    await meteredCall(ledger, RESERVATION, QUICK, undefined, send);
    expect(log).toEqual(['reserve 1', 'unknown 1 broken', 'reserve 2', 'release 2 broken', 'reserve 3', 'settle 3']);
  });

  it('settles a failure that was billed, and does not repeat what cannot succeed', async () => {
    const { log, ledger } = recordingLedger();
    const broken = failure('billed', false);
    await expect(meteredCall(ledger, RESERVATION, QUICK, undefined, failingWith(broken))).rejects.toBe(broken);
    expect(log).toEqual(['reserve 1', 'settle 1']);
  });

  it('counts an unexpected error as possibly billed', async () => {
    const { log, ledger } = recordingLedger();
    const bug = new TypeError('bug');
    await expect(meteredCall(ledger, RESERVATION, QUICK, undefined, failingWith(bug))).rejects.toBe(bug);
    expect(log).toEqual(['reserve 1', 'unknown 1 internal_error']);
  });

  it('gives up after the last attempt', async () => {
    const { log, ledger } = recordingLedger();
    const failures = Array.from({ length: 5 }, () => failure('unbilled', true));
    await expect(meteredCall(ledger, RESERVATION, QUICK, undefined, failingWith(...failures))).rejects.toBe(
      failures[2],
    );
    expect(log.filter((line) => line.startsWith('reserve'))).toHaveLength(3);
  });

  it('sends nothing more once it was told to stop', async () => {
    const { log, ledger } = recordingLedger();
    const stopped = AbortSignal.abort();
    const failed = failure('unbilled', true);
    await expect(meteredCall(ledger, RESERVATION, QUICK, stopped, failingWith(failed))).rejects.toBe(failed);
    expect(log).toEqual(['reserve 1', 'release 1 broken']);
  });
});

describe('retryDelayMs', () => {
  it('waits at least as long as the provider asked', () => {
    expect(retryDelayMs(failure('unbilled', true, 0.5), 1, QUICK)).toBe(500);
  });

  it('gives up when the provider asks for more patience than there is', () => {
    expect(retryDelayMs(failure('unbilled', true, 2), 1, QUICK)).toBeNull();
  });

  it('stays below its ceiling', () => {
    for (let attempt = 1; attempt < 60; attempt++) {
      expect(retryDelayMs(failure('unknown', true), attempt, QUICK)).toBeLessThanOrEqual(2);
    }
  });
});
