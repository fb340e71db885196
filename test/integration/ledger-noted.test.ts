import { beforeEach, describe, expect, it } from 'vitest';
import { DEFAULT_PROJECT, type Noted } from '../../src/ledger/accounts.js';
import { listEntries } from '../../src/ledger/entries.js';
import type { BilledAmounts } from '../../src/providers/provider.js';
import { ledgerFixture } from '../helpers/ledger-fixture.js';

/** What the ledger only notes: tokens that were billed and texts that were embedded. */

const fixture = ledgerFixture();
let before: Noted;

beforeEach(async () => {
  before = (await fixture.ledger.balance(DEFAULT_PROJECT)).noted;
});

const request = (key: string | null = null, epoch = 1) => fixture.request({ key, epoch });

function billed(inputTokens: number, outputTokens = 0): BilledAmounts {
  return { imageQueries: 0, requests: 1, costMicroUsd: 3, tokens: { inputTokens, outputTokens } };
}

/** On the job's account, which has to be on those of provider, day and project, too. */
async function noted(): Promise<[inputTokens: number, outputTokens: number, textEmbeddings: number]> {
  const { noted } = await fixture.ledger.balance(fixture.jobId);
  const { total, today } = await fixture.ledger.providerBalances(fixture.providerId);
  const project = (await fixture.ledger.balance(DEFAULT_PROJECT)).noted;
  expect(total.noted).toEqual(noted);
  expect(today.noted).toEqual(noted);
  expect(project).toEqual({
    inputTokens: before.inputTokens + noted.inputTokens,
    outputTokens: before.outputTokens + noted.outputTokens,
    textEmbeddings: before.textEmbeddings + noted.textEmbeddings,
  });
  const { data: entries } = await listEntries(fixture.db.database, fixture.jobId, { limit: 100 });
  for (const figure of ['inputTokens', 'outputTokens', 'textEmbeddings'] as const) {
    expect(entries.reduce((sum, entry) => sum + entry.noted[figure], 0)).toBe(noted[figure]);
  }
  expect(await fixture.ledger.discrepancies()).toEqual([]);
  return [noted.inputTokens, noted.outputTokens, noted.textEmbeddings];
}

describe('what the ledger notes', () => {
  it('adds up over the calls that were settled', async () => {
    await fixture.ledger.settle(await fixture.ledger.reserve(request()), { billed: billed(120, 1) });
    await fixture.ledger.settle(await fixture.ledger.reserve(request()), { billed: billed(30), texts: 7 });
    await fixture.ledger.settle(await fixture.ledger.reserve(request()), { billed: null, texts: 5 });
    await fixture.ledger.settle(await fixture.ledger.reserve(request()));
    expect(await noted()).toEqual([150, 1, 12]);
  });

  it('is nothing of a call that is under way, or that was not billed', async () => {
    await fixture.ledger.reserve(request());
    await fixture.ledger.release(await fixture.ledger.reserve(request()), 'provider_rate_limited');
    expect(await noted()).toEqual([0, 0, 0]);
  });

  it('counts the texts of a call that may have been billed, whose tokens nobody knows', async () => {
    await fixture.ledger.leaveUnknown(await fixture.ledger.reserve(request()), 'provider_timeout', 9);
    expect(await noted()).toEqual([0, 0, 9]);
  });

  it('notes a closing that is repeated once', async () => {
    const reservation = await fixture.ledger.reserve(request());
    const outcome = { billed: billed(40, 2), texts: 3 };
    expect(await fixture.ledger.settle(reservation, outcome)).toBe(true);
    expect(await fixture.ledger.settle(reservation, outcome)).toBe(true);
    expect(await fixture.ledger.settle(reservation, { billed: billed(999), texts: 99 })).toBe(true);
    expect(await fixture.ledger.release(reservation, 'late')).toBe(false);
    expect(await noted()).toEqual([40, 2, 3]);
  });

  it('notes a purchase once, whatever its earlier attempts left', async () => {
    await fixture.ledger.leaveUnknown(await fixture.ledger.reserve(request('a')), 'provider_timeout', 6);
    expect(await noted()).toEqual([0, 0, 6]);
    const again = await fixture.ledger.reserve(request('a'));
    expect(again.attempt).toBe(2);
    await fixture.ledger.settle(again, { billed: billed(80, 4), texts: 6 });
    expect(await noted()).toEqual([80, 4, 6]);
    // Settled, and asked for again because its answer was lost.
    const once = await fixture.ledger.reserve(request('a'));
    await fixture.ledger.settle(once, { billed: billed(81, 4), texts: 6 });
    expect(await noted()).toEqual([81, 4, 6]);
  });

  it('keeps the texts of a purchase of which one attempt may have been billed and the next was not', async () => {
    await fixture.ledger.leaveUnknown(await fixture.ledger.reserve(request('a')), 'provider_timeout', 6);
    await fixture.ledger.release(await fixture.ledger.reserve(request('a')), 'provider_rate_limited');
    const { data } = await listEntries(fixture.db.database, fixture.jobId, { limit: 1 });
    expect(data[0]).toMatchObject({ state: 'unknown', attempt: 2 });
    expect(await noted()).toEqual([0, 0, 6]);
  });

  it('keeps what is known of a purchase whose next attempt ends in the dark', async () => {
    await fixture.ledger.settle(await fixture.ledger.reserve(request('a')), { billed: billed(80, 4), texts: 6 });
    await fixture.ledger.reserve(request('a'));
    await fixture.db.database.job.update({ where: { id: fixture.jobId }, data: { epoch: 2 } });
    expect(await fixture.ledger.leaveUnknownBefore(fixture.jobId, 2)).toBe(1);
    expect(await noted()).toEqual([80, 4, 6]);
  });

  it('keeps nothing of a purchase that was released and then asked for anew', async () => {
    await fixture.ledger.release(await fixture.ledger.reserve(request('a')), 'provider_rate_limited');
    await fixture.ledger.settle(await fixture.ledger.reserve(request('a')), { billed: billed(10, 1), texts: 2 });
    expect(await noted()).toEqual([10, 1, 2]);
  });

  it('is left alone by an attempt that a successor has taken over', async () => {
    const lost = await fixture.ledger.reserve(request('a'));
    await fixture.db.database.job.update({ where: { id: fixture.jobId }, data: { epoch: 2 } });
    await fixture.ledger.leaveUnknownBefore(fixture.jobId, 2);
    const own = await fixture.ledger.reserve(request('a', 2));
    expect(await fixture.ledger.settle(lost, { billed: billed(500, 5), texts: 50 })).toBe(false);
    expect(await noted()).toEqual([0, 0, 0]);
    await fixture.ledger.settle(own, { billed: billed(70, 1), texts: 5 });
    expect(await noted()).toEqual([70, 1, 5]);
  });

  it('adds up where many close at once', async () => {
    const reservations = await Promise.all(Array.from({ length: 60 }, () => fixture.ledger.reserve(request())));
    await Promise.all(
      reservations.map((reservation, i) =>
        i % 3 === 0
          ? fixture.ledger.settle(reservation, { billed: billed(i, 1), texts: 2 })
          : i % 3 === 1
            ? fixture.ledger.release(reservation, 'test')
            : fixture.ledger.leaveUnknown(reservation, 'test', 3),
      ),
    );
    const settled = Array.from({ length: 20 }, (_, i) => 3 * i).reduce((sum, tokens) => sum + tokens, 0);
    expect(await noted()).toEqual([settled, 20, 20 * 2 + 20 * 3]);
  });

  it('is beyond 32 bits', async () => {
    await fixture.ledger.settle(await fixture.ledger.reserve(request()), {
      billed: billed(9_000_000_000_000_000),
      texts: 5_000_000_000,
    });
    expect(await noted()).toEqual([9_000_000_000_000_000, 0, 5_000_000_000]);
  });
});
