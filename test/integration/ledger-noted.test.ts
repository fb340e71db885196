import { beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { newId } from '../../src/ids.js';
import { DEFAULT_PROJECT, type Noted } from '../../src/ledger/accounts.js';
import { listEntries } from '../../src/ledger/entries.js';
import { Ledger } from '../../src/ledger/ledger.js';
import type { ReservationRequest } from '../../src/ledger/reservation.js';
import type { BilledAmounts } from '../../src/providers/provider.js';
import { createProvider, createRunningJob } from '../helpers/ledger-records.js';
import { type TestDatabase, testDatabase } from '../helpers/postgres.js';

/** What the ledger only notes: tokens that were billed and texts that were embedded. */

let db: TestDatabase;
let ledger: Ledger;
let providerId: string;
let jobId: string;
let before: Noted;

beforeAll(async () => {
  db = await testDatabase();
  ledger = new Ledger(db.database, db.connectionString);
  return () => ledger.close();
});

beforeEach(async () => {
  providerId = newId('prov-');
  await createProvider(db.database, ledger, providerId);
  jobId = await createRunningJob(db.database, ledger, providerId);
  before = (await ledger.balance(DEFAULT_PROJECT)).noted;
});

function request(key: string | null = null, epoch = 1): ReservationRequest {
  return {
    accountId: jobId,
    providerId,
    purpose: 'candidates',
    amounts: { promptEvaluations: 1, imageQueries: 0, requests: 1, costMicroUsd: 3 },
    guard: { kind: 'running_job', epoch },
    worker: 'test',
    purchase: key === null ? undefined : { key: `${jobId}/${key}`, windowSeconds: 3600 },
  };
}

function billed(inputTokens: number, outputTokens = 0): BilledAmounts {
  return { imageQueries: 0, requests: 1, costMicroUsd: 3, tokens: { inputTokens, outputTokens } };
}

/** On the job's account, which has to be on those of provider, day and project, too. */
async function noted(): Promise<[inputTokens: number, outputTokens: number, textEmbeddings: number]> {
  const { noted } = await ledger.balance(jobId);
  const { total, today } = await ledger.providerBalances(providerId);
  const project = (await ledger.balance(DEFAULT_PROJECT)).noted;
  expect(total.noted).toEqual(noted);
  expect(today.noted).toEqual(noted);
  expect(project).toEqual({
    inputTokens: before.inputTokens + noted.inputTokens,
    outputTokens: before.outputTokens + noted.outputTokens,
    textEmbeddings: before.textEmbeddings + noted.textEmbeddings,
  });
  const { data: entries } = await listEntries(db.database, jobId, { limit: 100 });
  for (const figure of ['inputTokens', 'outputTokens', 'textEmbeddings'] as const) {
    expect(entries.reduce((sum, entry) => sum + entry.noted[figure], 0)).toBe(noted[figure]);
  }
  expect(await ledger.discrepancies()).toEqual([]);
  return [noted.inputTokens, noted.outputTokens, noted.textEmbeddings];
}

describe('what the ledger notes', () => {
  it('adds up over the calls that were settled', async () => {
    await ledger.settle(await ledger.reserve(request()), { billed: billed(120, 1) });
    await ledger.settle(await ledger.reserve(request()), { billed: billed(30), texts: 7 });
    await ledger.settle(await ledger.reserve(request()), { billed: null, texts: 5 });
    await ledger.settle(await ledger.reserve(request()));
    expect(await noted()).toEqual([150, 1, 12]);
  });

  it('is nothing of a call that is under way, or that was not billed', async () => {
    await ledger.reserve(request());
    await ledger.release(await ledger.reserve(request()), 'provider_rate_limited');
    expect(await noted()).toEqual([0, 0, 0]);
  });

  it('counts the texts of a call that may have been billed, whose tokens nobody knows', async () => {
    await ledger.leaveUnknown(await ledger.reserve(request()), 'provider_timeout', 9);
    expect(await noted()).toEqual([0, 0, 9]);
  });

  it('notes a closing that is repeated once', async () => {
    const reservation = await ledger.reserve(request());
    const outcome = { billed: billed(40, 2), texts: 3 };
    expect(await ledger.settle(reservation, outcome)).toBe(true);
    expect(await ledger.settle(reservation, outcome)).toBe(true);
    expect(await ledger.settle(reservation, { billed: billed(999), texts: 99 })).toBe(true);
    expect(await ledger.release(reservation, 'late')).toBe(false);
    expect(await noted()).toEqual([40, 2, 3]);
  });

  it('notes a purchase once, whatever its earlier attempts left', async () => {
    await ledger.leaveUnknown(await ledger.reserve(request('a')), 'provider_timeout', 6);
    expect(await noted()).toEqual([0, 0, 6]);
    const again = await ledger.reserve(request('a'));
    expect(again.attempt).toBe(2);
    await ledger.settle(again, { billed: billed(80, 4), texts: 6 });
    expect(await noted()).toEqual([80, 4, 6]);
    // Settled, and asked for again because its answer was lost.
    const once = await ledger.reserve(request('a'));
    await ledger.settle(once, { billed: billed(81, 4), texts: 6 });
    expect(await noted()).toEqual([81, 4, 6]);
  });

  it('keeps the texts of a purchase of which one attempt may have been billed and the next was not', async () => {
    await ledger.leaveUnknown(await ledger.reserve(request('a')), 'provider_timeout', 6);
    await ledger.release(await ledger.reserve(request('a')), 'provider_rate_limited');
    const { data } = await listEntries(db.database, jobId, { limit: 1 });
    expect(data[0]).toMatchObject({ state: 'unknown', attempt: 2 });
    expect(await noted()).toEqual([0, 0, 6]);
  });

  it('keeps what is known of a purchase whose next attempt ends in the dark', async () => {
    await ledger.settle(await ledger.reserve(request('a')), { billed: billed(80, 4), texts: 6 });
    await ledger.reserve(request('a'));
    await db.database.job.update({ where: { id: jobId }, data: { epoch: 2 } });
    expect(await ledger.leaveUnknownBefore(jobId, 2)).toBe(1);
    expect(await noted()).toEqual([80, 4, 6]);
  });

  it('keeps nothing of a purchase that was released and then asked for anew', async () => {
    await ledger.release(await ledger.reserve(request('a')), 'provider_rate_limited');
    await ledger.settle(await ledger.reserve(request('a')), { billed: billed(10, 1), texts: 2 });
    expect(await noted()).toEqual([10, 1, 2]);
  });

  it('is left alone by an attempt that a successor has taken over', async () => {
    const lost = await ledger.reserve(request('a'));
    await db.database.job.update({ where: { id: jobId }, data: { epoch: 2 } });
    await ledger.leaveUnknownBefore(jobId, 2);
    const own = await ledger.reserve(request('a', 2));
    expect(await ledger.settle(lost, { billed: billed(500, 5), texts: 50 })).toBe(false);
    expect(await noted()).toEqual([0, 0, 0]);
    await ledger.settle(own, { billed: billed(70, 1), texts: 5 });
    expect(await noted()).toEqual([70, 1, 5]);
  });

  it('adds up where many close at once', async () => {
    const reservations = await Promise.all(Array.from({ length: 60 }, () => ledger.reserve(request())));
    await Promise.all(
      reservations.map((reservation, i) =>
        i % 3 === 0
          ? ledger.settle(reservation, { billed: billed(i, 1), texts: 2 })
          : i % 3 === 1
            ? ledger.release(reservation, 'test')
            : ledger.leaveUnknown(reservation, 'test', 3),
      ),
    );
    const settled = Array.from({ length: 20 }, (_, i) => 3 * i).reduce((sum, tokens) => sum + tokens, 0);
    expect(await noted()).toEqual([settled, 20, 20 * 2 + 20 * 3]);
  });

  it('is beyond 32 bits', async () => {
    await ledger.settle(await ledger.reserve(request()), {
      billed: billed(9_000_000_000_000_000),
      texts: 5_000_000_000,
    });
    expect(await noted()).toEqual([9_000_000_000_000_000, 0, 5_000_000_000]);
  });
});
