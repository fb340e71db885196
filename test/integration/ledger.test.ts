import { beforeAll, describe, expect, it } from 'vitest';
import { BudgetExceededError } from '../../src/errors.js';
import { newId } from '../../src/ids.js';
import { DEFAULT_PROJECT, NO_LIMITS, type QueryLimits } from '../../src/ledger/accounts.js';
import { Ledger } from '../../src/ledger/ledger.js';
import { ReservationRefusedError, type ReservationRequest } from '../../src/ledger/reservation.js';
import { createProvider, createRunningJob } from '../helpers/ledger-records.js';
import { type TestDatabase, testDatabase } from '../helpers/postgres.js';

let db: TestDatabase;
let ledger: Ledger;
const PROVIDER = 'prov-ledger-test';

beforeAll(async () => {
  db = await testDatabase();
  ledger = new Ledger(db.database, db.connectionString);
  await createProvider(db.database, ledger, PROVIDER);
});

async function account(limits: Partial<QueryLimits>): Promise<string> {
  const id = newId('account-');
  await db.database.$transaction((tx) =>
    ledger.openAccount(tx, { id, kind: 'job', providerId: PROVIDER }, { ...NO_LIMITS, ...limits }),
  );
  return id;
}

function request(
  accountId: string,
  imageQueries: number,
  overrides: Partial<ReservationRequest> = {},
): ReservationRequest {
  return {
    accountId,
    providerId: PROVIDER,
    purpose: 'candidates',
    amounts: { promptEvaluations: 1, imageQueries, requests: 1, costMicroUsd: 3 },
    guard: { kind: 'live_provider' },
    worker: 'test',
    ...overrides,
  };
}

const runningJob = () => createRunningJob(db.database, ledger, PROVIDER);

describe('the ledger', () => {
  it('moves amounts from reserved to used, or back', async () => {
    const id = await account({ imageQueries: 100 });
    const settled = await ledger.reserve(request(id, 10));
    const released = await ledger.reserve(request(id, 20));
    const unknown = await ledger.reserve(request(id, 30));
    expect((await ledger.balance(id)).imageQueries).toEqual({ limit: 100, used: 0, reserved: 60, remaining: 40 });
    await ledger.settle(settled);
    await ledger.release(released, 'refused');
    await ledger.leaveUnknown(unknown, 'timeout');
    expect(await ledger.balance(id)).toEqual({
      promptEvaluations: { limit: null, used: 2, reserved: 0, remaining: null },
      imageQueries: { limit: 100, used: 40, reserved: 0, remaining: 60 },
      requests: { limit: null, used: 2, reserved: 0, remaining: null },
      costMicroUsd: { limit: null, used: 6, reserved: 0, remaining: null },
      noted: { inputTokens: 0, outputTokens: 0, textEmbeddings: 0 },
    });
  });

  it('closes a reservation once only', async () => {
    const id = await account({});
    const reservation = await ledger.reserve(request(id, 10));
    await ledger.settle(reservation);
    await ledger.release(reservation, 'too late');
    await ledger.settle(reservation);
    expect((await ledger.balance(id)).imageQueries).toMatchObject({ used: 10, reserved: 0 });
  });

  it('refuses what would pass a limit and draws nothing, not even on the other units', async () => {
    const id = await account({ imageQueries: 15, requests: 5 });
    await ledger.reserve(request(id, 10));
    const refusal = await ledger.reserve(request(id, 6)).catch((error: unknown) => error);
    expect(refusal).toBeInstanceOf(BudgetExceededError);
    expect(refusal).toMatchObject({ code: 'budget_exhausted', param: 'max_image_queries', status: 402 });
    expect(await ledger.balance(id)).toMatchObject({ imageQueries: { reserved: 10 }, requests: { reserved: 1 } });
    await ledger.reserve(request(id, 5));
  });

  it('never passes a limit under concurrent callers', async () => {
    const id = await account({ imageQueries: 100 });
    const outcomes = await Promise.allSettled(
      Array.from({ length: 60 }, async (_, i) => {
        const reservation = await ledger.reserve(request(id, 3));
        if (i % 3 === 0) await ledger.release(reservation, 'test');
        else await ledger.settle(reservation);
      }),
    );
    const served = outcomes.filter(({ status }, i) => status === 'fulfilled' && i % 3 !== 0).length;
    const { used, reserved } = (await ledger.balance(id)).imageQueries;
    expect(reserved).toBe(0);
    expect(used).toBe(served * 3);
    expect(used).toBeLessThanOrEqual(100);
    const refusals = outcomes.flatMap((outcome) => (outcome.status === 'rejected' ? [outcome.reason] : []));
    expect(refusals.length).toBeGreaterThan(0);
    // Amounts that come back while a refusal is looked into must not make it look like a lost guard.
    expect(refusals.every((reason) => reason instanceof BudgetExceededError)).toBe(true);
  });

  it('adds up: the account equals the sum of its reservations by state', async () => {
    const id = await account({});
    for (let i = 1; i <= 9; i++) {
      const reservation = await ledger.reserve(request(id, i));
      if (i % 4 === 1) await ledger.settle(reservation);
      if (i % 4 === 2) await ledger.release(reservation, 'test');
      if (i % 4 === 3) await ledger.leaveUnknown(reservation, 'test');
    }
    const rows = await db.database.reservation.groupBy({
      by: ['state'],
      where: { accountId: id },
      _sum: { imageQueries: true },
    });
    const sum = (state: string) => Number(rows.find((row) => row.state === state)?._sum.imageQueries ?? 0n);
    const { used, reserved } = (await ledger.balance(id)).imageQueries;
    expect(used).toBe(sum('settled') + sum('unknown'));
    expect(reserved).toBe(sum('reserved'));
    expect(reserved).toBeGreaterThan(0);
  });

  it('handles amounts beyond 32 bits', async () => {
    const id = await account({ imageQueries: 9_000_000_000_000_000 });
    await ledger.settle(await ledger.reserve(request(id, 8_999_999_999_999_999)));
    expect((await ledger.balance(id)).imageQueries).toMatchObject({ used: 8_999_999_999_999_999, remaining: 1 });
  });

  it('lets only the current owner of a running job draw, and counts what a lost worker left open', async () => {
    const jobId = await runningJob();
    const owner = (epoch: number) => request(jobId, 7, { guard: { kind: 'running_job', epoch } });
    await ledger.reserve(owner(1));
    await db.database.job.update({ where: { id: jobId }, data: { epoch: 2 } });
    await expect(ledger.reserve(owner(1))).rejects.toBeInstanceOf(ReservationRefusedError);
    expect(await ledger.leaveUnknownBefore(jobId, 2)).toBe(1);
    expect(await ledger.leaveUnknownBefore(jobId, 2)).toBe(0);
    const own = await ledger.reserve(owner(2));
    expect((await ledger.balance(jobId)).imageQueries).toMatchObject({ used: 7, reserved: 7 });
    await db.database.job.update({ where: { id: jobId }, data: { status: 'cancelled' } });
    await expect(ledger.reserve(owner(2))).rejects.toBeInstanceOf(ReservationRefusedError);
    await ledger.settle(own);
    expect((await ledger.balance(jobId)).imageQueries).toMatchObject({ used: 14, reserved: 0 });
  });

  it('keeps a paid answer with its settlement, and none of a call that a successor closed', async () => {
    const jobId = await runningJob();
    const answer = (byte: number) => ({
      callHash: new Uint8Array(32).fill(byte),
      logits: new Uint8Array(Float32Array.of(byte, 0.5).buffer),
    });
    const owner = (chunk: number) =>
      request(jobId, 1, { guard: { kind: 'running_job', epoch: 1 }, generation: 4, chunk });
    await ledger.settle(await ledger.reserve(owner(0)), { answer: answer(1) });
    await ledger.settle(await ledger.reserve(owner(0)), { answer: answer(2) });
    const lost = await ledger.reserve(owner(1));
    await ledger.leaveUnknownBefore(jobId, 2);
    await ledger.settle(lost, { answer: answer(3) });
    const stored = await db.database.storedAnswer.findMany({ where: { jobId } });
    expect(stored).toHaveLength(1);
    expect(stored[0]).toMatchObject({ generation: 4, chunk: 0 });
    expect(new Uint8Array(stored[0].logits)).toEqual(answer(2).logits);
  });

  it("counts every call on the accounts of its provider, of its provider's day and of its project, too", async () => {
    const of = async () => {
      const { total, today } = await ledger.providerBalances(PROVIDER);
      const project = await ledger.balance(DEFAULT_PROJECT);
      return [total, today, project].map(({ imageQueries, requests }) => [imageQueries.used, requests.used]);
    };
    const before = await of();
    await ledger.settle(await ledger.reserve(request(await account({}), 11)));
    await ledger.settle(await ledger.reserve(request(await account({}), 12)));
    expect(await of()).toEqual(before.map(([imageQueries, requests]) => [imageQueries + 23, requests + 2]));
  });
});
