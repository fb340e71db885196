import { beforeAll, beforeEach, describe, expect, it, vi } from 'vitest';
import { newId } from '../../src/ids.js';
import { usedOf } from '../../src/ledger/accounts.js';
import { Ledger } from '../../src/ledger/ledger.js';
import type { ReservationRequest } from '../../src/ledger/reservation.js';
import { LedgerStateTotals } from '../../src/ledger/state-totals.js';
import { createProvider, createRunningJob } from '../helpers/ledger-records.js';
import { type TestDatabase, testDatabase } from '../helpers/postgres.js';

/** Totals by state, which are kept until the account changes. */

let db: TestDatabase;
let ledger: Ledger;
let providerId: string;
let jobId: string;

beforeAll(async () => {
  db = await testDatabase();
  ledger = new Ledger(db.database, db.connectionString);
  return () => ledger.close();
});

beforeEach(async () => {
  providerId = newId('prov-');
  await createProvider(db.database, ledger, providerId);
  jobId = await createRunningJob(db.database, ledger, providerId);
});

function request(images: number, key?: string): ReservationRequest {
  return {
    accountId: jobId,
    providerId,
    purpose: 'candidates',
    amounts: { promptEvaluations: 1, imageQueries: images, requests: 1, costMicroUsd: 3 },
    guard: { kind: 'running_job', epoch: 1 },
    worker: 'test',
    purchase: key === undefined ? undefined : { key: `${jobId}/${key}`, windowSeconds: 3600 },
  };
}

describe('LedgerStateTotals', () => {
  it('says, after every kind of change, what is added up anew', async () => {
    const kept = new LedgerStateTotals(db.database);
    const entries = async () => {
      const totals = await kept.of(jobId);
      expect(totals).toEqual(await new LedgerStateTotals(db.database).of(jobId));
      return Object.fromEntries(Object.entries(totals).map(([state, { entries }]) => [state, entries]));
    };
    expect(await entries()).toEqual({ reserved: 0, settled: 0, released: 0, unknown: 0 });
    const [settled, released, lost] = await Promise.all([1, 2, 4].map((n) => ledger.reserve(request(n, `${n}`))));
    expect(await entries()).toEqual({ reserved: 3, settled: 0, released: 0, unknown: 0 });
    await ledger.settle(settled);
    expect(await entries()).toEqual({ reserved: 2, settled: 1, released: 0, unknown: 0 });
    await ledger.release(released, 'test');
    expect(await entries()).toEqual({ reserved: 1, settled: 1, released: 1, unknown: 0 });
    await ledger.leaveUnknown(lost, 'test');
    expect(await entries()).toEqual({ reserved: 0, settled: 1, released: 1, unknown: 1 });
    // The purchase goes on under its key: its entry is open again.
    const again = await ledger.reserve(request(4, '4'));
    expect(await entries()).toEqual({ reserved: 1, settled: 1, released: 1, unknown: 0 });
    await ledger.settle(again);
    expect(await entries()).toEqual({ reserved: 0, settled: 2, released: 1, unknown: 0 });
    // Nothing is drawn and nothing returned, but an entry is added.
    const amounts = { promptEvaluations: 0, imageQueries: 0, requests: 0, costMicroUsd: 0 };
    await ledger.reserve({ ...request(0), amounts });
    expect(await entries()).toEqual({ reserved: 1, settled: 2, released: 1, unknown: 0 });
  });

  it('agrees with the account', async () => {
    const reservations = await Promise.all([1, 2, 3].map((n) => ledger.reserve(request(n))));
    await ledger.settle(reservations[0], { billed: { imageQueries: 5, requests: 1, costMicroUsd: 9 } });
    await ledger.leaveUnknown(reservations[1], 'test');
    const totals = await new LedgerStateTotals(db.database).of(jobId);
    const balance = await ledger.balance(jobId);
    for (const unit of ['promptEvaluations', 'imageQueries', 'requests', 'costMicroUsd'] as const) {
      expect(totals.settled[unit] + totals.unknown[unit]).toBe(usedOf(balance)[unit]);
      expect(totals.reserved[unit]).toBe(balance[unit].reserved);
    }
  });

  it('adds nothing up where nothing has changed', async () => {
    const totals = new LedgerStateTotals(db.database);
    await ledger.settle(await ledger.reserve(request(1)));
    const first = await totals.of(jobId);
    const queries = vi.spyOn(db.database, '$queryRaw');
    expect(await totals.of(jobId)).toBe(first);
    expect(queries).toHaveBeenCalledOnce();
    queries.mockRestore();
  });
});
