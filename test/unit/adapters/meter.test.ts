import { describe, expect, it } from 'vitest';
import { Meter, type ScoringOrder } from '../../../src/adapters/metered-scoring.js';
import type { Ledger } from '../../../src/ledger/ledger.js';
import type { BilledAmounts, QueryAmounts } from '../../../src/providers/provider.js';
import { type Billing, ProviderCallError } from '../../../src/providers/provider-call-error.js';

const BOUND: QueryAmounts = { promptEvaluations: 1, imageQueries: 1, requests: 1, costMicroUsd: 1600 };
const BILLED: BilledAmounts = {
  imageQueries: 1,
  requests: 1,
  costMicroUsd: 135,
  tokens: { inputTokens: 333, outputTokens: 1 },
};

/** The real ledger is tested on a real database. */
const ledger = {
  reserve: async () => ({ id: 1n, epoch: null, attempt: 1 }),
  settle: async () => true,
  settleLater: () => undefined,
  release: async () => undefined,
  leaveUnknown: async () => undefined,
} as unknown as Ledger;

/** What a call costs that fails as often as there are `failures` before it is answered. */
async function usageOf(billed: BilledAmounts | null, failures: Billing[] = [], idempotency: object | null = null) {
  const meter = new Meter(ledger, { provider: { id: 'p', capabilities: { idempotency } } } as unknown as ScoringOrder);
  const left = [...failures];
  await meter.send(0, BOUND, {
    async send() {
      const billing = left.shift();
      if (billing) throw new ProviderCallError({ code: 'broken', message: 'broken', billing, retryable: true });
      return { answer: new Float32Array(1), billed };
    },
    hash: () => new Uint8Array(32),
  });
  return meter.usage;
}

describe('Meter', () => {
  it('counts what the provider says it billed, not the bound that was reserved', async () => {
    expect(await usageOf(BILLED)).toEqual({ ...BOUND, costMicroUsd: 135 });
  });

  it('counts what was reserved of a provider that says nothing', async () => {
    expect(await usageOf(null)).toEqual(BOUND);
  });

  it('counts attempts that failed as the ledger does: all that may have been billed', async () => {
    const failures: Billing[] = ['unknown', 'unbilled'];
    expect(await usageOf(BILLED, failures)).toEqual({
      promptEvaluations: 2,
      imageQueries: 2,
      requests: 2,
      costMicroUsd: 1735,
    });
  });

  it('counts a purchase once, whatever attempts it took', async () => {
    const idempotency = { windowSeconds: 60 };
    expect(await usageOf(BILLED, ['unknown', 'unknown'], idempotency)).toEqual({ ...BOUND, costMicroUsd: 135 });
  });
});
