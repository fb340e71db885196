import { beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { newId } from '../../src/ids.js';
import { DEFAULT_PROJECT, LimitReachedError, NO_LIMITS, type QueryLimits } from '../../src/ledger/accounts.js';
import { Ledger } from '../../src/ledger/ledger.js';
import { DeadlinePassedError, ReservationRefusedError, type ReservationRequest } from '../../src/ledger/reservation.js';
import { createProvider, createRunningJob, today } from '../helpers/ledger-records.js';
import { type TestDatabase, testDatabase } from '../helpers/postgres.js';

let db: TestDatabase;
let ledger: Ledger;
/** Another process. */
let other: Ledger;
let providerId: string;
let jobId: string;

beforeAll(async () => {
  db = await testDatabase();
  [ledger, other] = [0, 1].map(() => new Ledger(db.database, db.connectionString));
  return async () => {
    await ledger.close();
    await other.close();
  };
});

beforeEach(async () => {
  providerId = newId('prov-');
  await createProvider(db.database, ledger, providerId);
  jobId = await createRunningJob(db.database, ledger, providerId);
  await ledger.changeLimits(DEFAULT_PROJECT, NO_LIMITS);
});

function request(imageQueries: number, overrides: Partial<ReservationRequest> = {}): ReservationRequest {
  return {
    accountId: jobId,
    providerId,
    purpose: 'candidates',
    amounts: { promptEvaluations: 1, imageQueries, requests: 1, costMicroUsd: 3 },
    guard: { kind: 'running_job', epoch: 1 },
    worker: 'test',
    ...overrides,
  };
}

const setDaily = (daily: Partial<QueryLimits>) =>
  db.database.$transaction((tx) => ledger.setProviderLimits(tx, providerId, { daily }));

/** What every account of the job's calls holds, in image queries. */
async function taken(): Promise<Record<string, number>> {
  const balances = await ledger.balances([jobId, providerId, `${providerId}@${today()}`, DEFAULT_PROJECT]);
  return Object.fromEntries(
    [...balances].map(
      ([
        id,
        {
          imageQueries: { used, reserved },
        },
      ]) => [id, used + reserved],
    ),
  );
}

describe('limits of the ledger', () => {
  it.each([
    ['its job', 'budget_exhausted', (limits: Partial<QueryLimits>) => ledger.changeLimits(jobId, limits)],
    ['its provider', 'provider_limit_reached', (limits) => ledger.changeLimits(providerId, limits)],
    ["its provider's day", 'provider_daily_limit_reached', (limits) => setDaily(limits)],
    [
      'its project',
      'project_limit_reached',
      async (limits) => {
        const { used, reserved } = (await ledger.balance(DEFAULT_PROJECT)).imageQueries;
        await ledger.changeLimits(DEFAULT_PROJECT, { imageQueries: limits.imageQueries! + used + reserved - 10 });
      },
    ],
  ] as [string, string, (limits: Partial<QueryLimits>) => Promise<unknown>][])(
    'a call that %s does not cover draws on no account',
    async (_, code, limit) => {
      await ledger.settle(await ledger.reserve(request(10)));
      await limit({ imageQueries: 15 });
      const before = await taken();
      const refusal = await ledger.reserve(request(6)).catch((error: unknown) => error);
      expect(refusal).toBeInstanceOf(LimitReachedError);
      expect(refusal).toMatchObject({ code, param: 'max_image_queries', shortage: { remaining: 5, needed: 6 } });
      expect(await taken()).toEqual(before);
      await ledger.reserve(request(5));
      expect(await taken()).toEqual(Object.fromEntries(Object.entries(before).map(([id, n]) => [id, n + 5])));
      expect(await ledger.discrepancies()).toEqual([]);
    },
  );

  it('refuse a call of nobody', async () => {
    const nobody = ledger.reserve(request(1, { accountId: 'ftjob-none' }));
    await expect(nobody).rejects.toBeInstanceOf(ReservationRefusedError);
  });

  it('name the first account of several that do not cover a call', async () => {
    await ledger.changeLimits(providerId, { imageQueries: 1 });
    await setDaily({ imageQueries: 1 });
    await expect(ledger.reserve(request(2))).rejects.toMatchObject({ code: 'provider_limit_reached' });
    await ledger.changeLimits(jobId, { requests: 0 });
    await expect(ledger.reserve(request(2))).rejects.toMatchObject({ code: 'budget_exhausted', param: 'max_requests' });
  });

  it('do not stop a call that needs nothing of the unit that is used up', async () => {
    await ledger.settle(await ledger.reserve(request(10)));
    await ledger.changeLimits(jobId, { imageQueries: 4 });
    await ledger.settle(await ledger.reserve(request(0)));
    expect((await ledger.balance(jobId)).imageQueries).toMatchObject({ used: 10, remaining: -6 });
  });

  it("of a provider's day hold from the first call on, and change for today", async () => {
    await setDaily({ imageQueries: 10 });
    const day = `${providerId}@${today()}`;
    expect((await ledger.balances([day])).size).toBe(0);
    expect((await ledger.providerBalances(providerId)).today.imageQueries).toMatchObject({ limit: 10, used: 0 });
    await ledger.settle(await ledger.reserve(request(8)));
    expect((await ledger.balance(day)).imageQueries).toMatchObject({ limit: 10, used: 8 });
    await expect(ledger.reserve(request(3))).rejects.toMatchObject({ code: 'provider_daily_limit_reached' });
    await setDaily({ imageQueries: 11 });
    await ledger.settle(await ledger.reserve(request(3)));
    expect((await ledger.providerBalances(providerId)).today.imageQueries).toMatchObject({ limit: 11, used: 11 });
  });

  it("open a provider's day once when its first calls come from two processes at the same time", async () => {
    await setDaily({ requests: 3 });
    const outcomes = await Promise.allSettled(
      Array.from({ length: 8 }, (_, i) => [ledger, other][i % 2].reserve(request(1))),
    );
    expect(outcomes.filter(({ status }) => status === 'fulfilled')).toHaveLength(3);
    expect((await ledger.providerBalances(providerId)).today.requests).toMatchObject({ reserved: 3, remaining: 0 });
  });

  it('give the last unit to one of two processes that ask at the same time', async () => {
    for (let round = 1; round <= 20; round++) {
      await ledger.changeLimits(jobId, { imageQueries: round });
      const outcomes = await Promise.allSettled([ledger, other].map((process) => process.reserve(request(1))));
      expect(outcomes.map(({ status }) => status).sort()).toEqual(['fulfilled', 'rejected']);
      expect(outcomes.find(({ status }) => status === 'rejected')).toMatchObject({
        reason: { code: 'budget_exhausted' },
      });
    }
    expect((await ledger.balance(jobId)).imageQueries).toMatchObject({ reserved: 20, remaining: 0 });
  });

  it('refuse the one call that they do not cover, not those that are asked with it', async () => {
    const poor = await createRunningJob(db.database, ledger, providerId, { ...NO_LIMITS, imageQueries: 5 });
    const outcomes = await Promise.allSettled([
      ledger.reserve(request(1)),
      ledger.reserve(request(4, { accountId: poor })),
      ledger.reserve(request(2, { accountId: poor })),
      ledger.reserve(request(1, { accountId: poor })),
      ledger.reserve(request(7)),
      ledger.reserve(request(1, { accountId: 'ftjob-none' })),
    ]);
    expect(outcomes.map(({ status }) => status)).toEqual([
      'fulfilled',
      'fulfilled',
      'rejected',
      'fulfilled',
      'fulfilled',
      'rejected',
    ]);
    expect(outcomes[5]).toMatchObject({ reason: expect.any(ReservationRefusedError) });
    expect(outcomes[2]).toMatchObject({ reason: { shortage: { accountId: poor, remaining: 1, needed: 2 } } });
    expect((await ledger.balance(poor)).imageQueries.reserved).toBe(5);
    expect((await ledger.balance(jobId)).imageQueries.reserved).toBe(8);
    expect((await ledger.balance(providerId)).imageQueries.reserved).toBe(13);
  });

  it('let no call go out after the deadline of its job', async () => {
    await db.database.job.update({ where: { id: jobId }, data: { deadline: new Date(Date.now() + 60_000) } });
    const before = await ledger.reserve(request(1));
    await db.database.job.update({ where: { id: jobId }, data: { deadline: new Date(Date.now() - 1000) } });
    await expect(ledger.reserve(request(1))).rejects.toBeInstanceOf(DeadlinePassedError);
    expect(await ledger.settle(before)).toBe(true);
    expect((await ledger.balance(jobId)).imageQueries).toMatchObject({ used: 1, reserved: 0 });
  });
});
