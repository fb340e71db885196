import { describe, expect, it } from 'vitest';
import type { Ledger } from '../../../src/ledger/ledger.js';
import { attemptCall, type MeteredCall, meteredCall, retryDelayMs } from '../../../src/ledger/metered-call.js';
import { type Closing, type Reservation, ReservationRefusedError } from '../../../src/ledger/reservation.js';
import { ProviderCallError } from '../../../src/providers/provider-call-error.js';

const QUICK = { maxAttempts: 3, baseDelayMs: 1, maxDelayMs: 2, maxRetryAfterMs: 1000 };

/** Records what it is told; the real ledger is tested on a real database. */
function recordingLedger(options: { epoch?: number; closes?: boolean } = {}) {
  const log: string[] = [];
  let next = 0n;
  const ledger = {
    reserve: async (): Promise<Reservation> => {
      next++;
      log.push(`reserve ${next}`);
      return { id: next, epoch: options.epoch ?? null, attempt: 1 };
    },
    settle: async ({ id }: Reservation, outcome: Partial<Closing & { state: 'settled' }> = {}) => {
      log.push(`settle ${id}${outcome.billed ? ` for ${outcome.billed.imageQueries}` : ''}`);
      return options.closes ?? true;
    },
    release: async ({ id }: Reservation, reason: string) => void log.push(`release ${id} ${reason}`),
    leaveUnknown: async ({ id }: Reservation, reason: string) => void log.push(`unknown ${id} ${reason}`),
  };
  return { log, ledger: ledger as unknown as Ledger };
}

function failure(
  billing: 'billed' | 'unbilled' | 'unknown',
  retryable: boolean,
  retryAfterSeconds?: number,
  code = 'broken',
) {
  return new ProviderCallError({ code, message: 'broken', billing, retryable, retryAfterSeconds });
}

function callThat(...failures: Error[]): MeteredCall<string> {
  return {
    reservation: {
      accountId: 'job',
      providerId: 'provider',
      purpose: 'candidates',
      amounts: { promptEvaluations: 1, imageQueries: 2, requests: 1, costMicroUsd: 0 },
      guard: { kind: 'live_provider' },
      worker: 'test',
    },
    async send() {
      const next = failures.shift();
      if (next) throw next;
      return { answer: 'answer', billed: null };
    },
  };
}

describe('meteredCall', () => {
  it('reserves before sending and settles after, with what the provider says it billed', async () => {
    const { log, ledger } = recordingLedger();
    const call = callThat();
    const answer = await meteredCall(
      ledger,
      {
        ...call,
        async send() {
          log.push('send');
          return { answer: 'answer', billed: { imageQueries: 1, requests: 1, costMicroUsd: 0 } };
        },
      },
      QUICK,
    );
    expect(answer).toBe('answer');
    expect(log).toEqual(['reserve 1', 'send', 'settle 1 for 1']);
  });

  it('reserves again for every retry and closes each by what is known of its payment', async () => {
    const { log, ledger } = recordingLedger();
    await meteredCall(ledger, callThat(failure('unknown', true), failure('unbilled', true)), QUICK);
    expect(log).toEqual(['reserve 1', 'unknown 1 broken', 'reserve 2', 'release 2 broken', 'reserve 3', 'settle 3']);
  });

  it('settles a failure that was billed, and does not repeat what cannot succeed', async () => {
    const { log, ledger } = recordingLedger();
    const broken = failure('billed', false);
    await expect(meteredCall(ledger, callThat(broken), QUICK)).rejects.toBe(broken);
    expect(log).toEqual(['reserve 1', 'settle 1']);
  });

  it('counts an unexpected error as possibly billed', async () => {
    const { log, ledger } = recordingLedger();
    const bug = new TypeError('bug');
    await expect(meteredCall(ledger, callThat(bug), QUICK)).rejects.toBe(bug);
    expect(log).toEqual(['reserve 1', 'unknown 1 internal_error']);
  });

  it('does not repeat what was not answered in time and may be billed again', async () => {
    const { log, ledger } = recordingLedger();
    const silence = failure('unknown', true, undefined, 'provider_timeout');
    await expect(meteredCall(ledger, callThat(silence), QUICK)).rejects.toBe(silence);
    expect(log).toEqual(['reserve 1', 'unknown 1 provider_timeout']);
  });

  it('repeats what was not answered in time under the key of its purchase', async () => {
    const { log, ledger } = recordingLedger();
    const call = callThat(failure('unknown', true, undefined, 'provider_timeout'));
    const purchase = { key: 'k', windowSeconds: 60 };
    const answer = await meteredCall(ledger, { ...call, reservation: { ...call.reservation, purchase } }, QUICK);
    expect(answer).toBe('answer');
    expect(log).toEqual(['reserve 1', 'unknown 1 provider_timeout', 'reserve 2', 'settle 2']);
  });

  it('gives up after the last attempt', async () => {
    const { log, ledger } = recordingLedger();
    const failures = Array.from({ length: 5 }, () => failure('unbilled', true));
    await expect(meteredCall(ledger, callThat(...failures), QUICK)).rejects.toBe(failures[2]);
    expect(log.filter((line) => line.startsWith('reserve'))).toHaveLength(3);
  });
});

describe('attemptCall', () => {
  it('gives no answer to a worker whose job was taken over while the provider answered', async () => {
    const { ledger } = recordingLedger({ epoch: 1, closes: false });
    await expect(attemptCall(ledger, callThat())).rejects.toBeInstanceOf(ReservationRefusedError);
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
