import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import { DEFAULT_PROJECT, usedOf } from '../../src/ledger/accounts.js';
import { Ledger } from '../../src/ledger/ledger.js';
import { readStateTotals, type StateTotals } from '../../src/ledger/state-totals.js';
import { ledgerFixture } from '../helpers/ledger-fixture.js';
import { today } from '../helpers/ledger-records.js';
import { sumsOfEntries } from '../helpers/ledger-sums.js';
import { query } from '../helpers/postgres.js';

/** Totals by state, which are kept on the account by whatever changes its entries. */

const fixture = ledgerFixture();
const request = (imageQueries: number, key?: string, epoch?: number) =>
  fixture.request({ key, epoch, amounts: { imageQueries } });

/** The job's totals, when those of all its accounts are what their entries add up to. */
async function totals(): Promise<StateTotals> {
  const { db, jobId, providerId, ledger } = fixture;
  for (const account of [jobId, providerId, `${providerId}@${today()}`, DEFAULT_PROJECT]) {
    const exists = (await db.database.ledgerAccount.count({ where: { id: account } })) > 0;
    // The account of a day is opened by its first call.
    if (!exists && account.includes('@')) continue;
    expect(await readStateTotals(db.database, account)).toEqual(await sumsOfEntries(db.connectionString, account));
  }
  expect(await ledger.discrepancies()).toEqual([]);
  return readStateTotals(db.database, jobId);
}

/** Reserved, settled, released, unknown. */
async function entries(): Promise<number[]> {
  return Object.values(await totals()).map((total) => total.entries);
}

describe('totals by state', () => {
  it('follow every kind of change', async () => {
    const { ledger } = fixture;
    expect(await entries()).toEqual([0, 0, 0, 0]);
    const [settled, released, lost] = await Promise.all([1, 2, 4].map((n) => ledger.reserve(request(n, `${n}`))));
    expect(await entries()).toEqual([3, 0, 0, 0]);
    await ledger.settle(settled);
    expect(await entries()).toEqual([2, 1, 0, 0]);
    await ledger.release(released, 'test');
    expect(await entries()).toEqual([1, 1, 1, 0]);
    await ledger.leaveUnknown(lost, 'test');
    expect(await entries()).toEqual([0, 1, 1, 1]);
    // The purchase goes on under its key: its entry is open again.
    const again = await ledger.reserve(request(4, '4'));
    expect(await entries()).toEqual([1, 1, 1, 0]);
    await ledger.settle(again);
    expect(await entries()).toEqual([0, 2, 1, 0]);
    // So it is where it was released, now for other amounts, and where it was settled.
    await ledger.leaveUnknown(await ledger.reserve(request(9, '2')), 'test');
    expect(await entries()).toEqual([0, 2, 0, 1]);
    await ledger.reserve(request(1, '1'));
    expect(await entries()).toEqual([1, 1, 0, 1]);
    // Nothing is drawn and nothing returned, but an entry is added.
    const amounts = { promptEvaluations: 0, imageQueries: 0, requests: 0, costMicroUsd: 0 };
    await ledger.reserve(fixture.request({ amounts }));
    expect(await entries()).toEqual([2, 1, 0, 1]);
  });

  it('are the amounts of the account', async () => {
    const { ledger, jobId } = fixture;
    const reservations = await Promise.all([1, 2, 3, 4].map((n) => ledger.reserve(request(n))));
    await ledger.settle(reservations[0], { billed: { imageQueries: 5, requests: 1, costMicroUsd: 9 } });
    await ledger.leaveUnknown(reservations[1], 'test');
    await ledger.release(reservations[2], 'test');
    expect(await totals()).toEqual({
      reserved: { entries: 1, promptEvaluations: 1, imageQueries: 4, requests: 1, costMicroUsd: 3 },
      settled: { entries: 1, promptEvaluations: 1, imageQueries: 5, requests: 1, costMicroUsd: 9 },
      released: { entries: 1, promptEvaluations: 1, imageQueries: 3, requests: 1, costMicroUsd: 3 },
      unknown: { entries: 1, promptEvaluations: 1, imageQueries: 2, requests: 1, costMicroUsd: 3 },
    });
    const balance = await ledger.balance(jobId);
    expect(usedOf(balance)).toEqual({ promptEvaluations: 2, imageQueries: 7, requests: 2, costMicroUsd: 12 });
    expect(balance.imageQueries.reserved).toBe(4);
  });

  it('forget what was billed of a purchase that is asked for again', async () => {
    const { ledger } = fixture;
    const billed = { imageQueries: 5, requests: 2, costMicroUsd: 9 };
    await ledger.settle(await ledger.reserve(request(2, 'a')), { billed });
    await ledger.leaveUnknown(await ledger.reserve(request(2, 'a')), 'test');
    expect((await totals()).unknown).toEqual({ entries: 1, promptEvaluations: 1, ...billed });
    // One attempt may have been billed, so that this one's release leaves it unknown.
    await ledger.release(await ledger.reserve(request(2, 'a')), 'test');
    expect((await totals()).unknown).toEqual({ entries: 1, promptEvaluations: 1, ...billed });
  });

  it('count nothing of calls that a limit refuses together with others that it lets pass', async () => {
    const { ledger, jobId } = fixture;
    await ledger.changeLimits(jobId, { imageQueries: 10 });
    const results = await Promise.allSettled([4, 5, 6, 1].map((n) => ledger.reserve(request(n))));
    expect(results.map(({ status }) => status)).toEqual(['fulfilled', 'fulfilled', 'rejected', 'fulfilled']);
    expect(await entries()).toEqual([3, 0, 0, 0]);
  });

  it('follow a purchase that is drawn anew on another day', async () => {
    const { ledger, db, jobId, providerId } = fixture;
    const first = await ledger.reserve(request(4, 'a'));
    await ledger.release(first, 'test');
    // Its day becomes an earlier one, and today has no account yet.
    const [day, earlier] = [`${providerId}@${today()}`, `${providerId}@2001-02-03`];
    await db.database.ledgerAccount.update({ where: { id: day }, data: { id: earlier } });
    await query(
      db.connectionString,
      'UPDATE ledger_reservations SET accounts = array_replace(accounts, $2, $3) WHERE account_id = $1',
      [jobId, day, earlier],
    );
    await ledger.reserve(request(7, 'a'));
    expect(await entries()).toEqual([1, 0, 0, 0]);
    const none = { entries: 0, promptEvaluations: 0, imageQueries: 0, requests: 0, costMicroUsd: 0 };
    expect(await readStateTotals(db.database, earlier)).toEqual({
      reserved: none,
      settled: none,
      released: none,
      unknown: none,
    });
    expect((await readStateTotals(db.database, day)).reserved.imageQueries).toBe(7);
  });

  it('follow a successor that counts what its predecessor left open', async () => {
    const { ledger, db, jobId } = fixture;
    const [lost, taken] = [await ledger.reserve(request(3, 'a')), await ledger.reserve(request(5, 'b'))];
    await db.database.job.update({ where: { id: jobId }, data: { epoch: 2 } });
    const own = await ledger.reserve(request(5, 'b', 2));
    expect(await entries()).toEqual([2, 0, 0, 0]);
    expect(await ledger.leaveUnknownBefore(jobId, 2)).toBe(1);
    expect(await entries()).toEqual([1, 0, 0, 1]);
    expect(await ledger.settle(taken)).toBe(false);
    expect(await ledger.release(lost, 'test')).toBe(false);
    expect(await entries()).toEqual([1, 0, 0, 1]);
    await ledger.settle(own);
    expect(await entries()).toEqual([0, 1, 0, 1]);
  });

  it('add up where two processes change entries in every way while their connections are cut', async () => {
    const { db, jobId } = fixture;
    const ledgers = [fixture.ledger, new Ledger(db.database, db.connectionString)];
    let running = true;
    const caller = async (index: number) => {
      const ledger = ledgers[index % 2];
      for (let n = 0; running; n++) {
        // Half of them come back to their own few purchases, of whatever state.
        const key = index % 4 < 2 ? `${index} ${n % 3}` : undefined;
        const reservation = await ledger.reserve(request(1 + (n % 5), key));
        const billed = n % 2 === 0 ? { imageQueries: n % 7, requests: 1, costMicroUsd: 2 } : null;
        if (n % 6 === 1) await ledger.release(reservation, 'test');
        else if (n % 6 === 2) await ledger.leaveUnknown(reservation, 'test');
        else if (n % 6 === 3) ledger.settleLater(reservation, { billed });
        else if (n % 6 === 4) continue;
        else await ledger.settle(reservation, { billed });
      }
    };
    const callers = Promise.all(Array.from({ length: 16 }, (_, index) => caller(index)));
    let cut = 0;
    for (let round = 0; round < 40; round++) {
      await sleep(Math.random() * 30);
      const [{ count }] = await query<{ count: string }>(
        db.connectionString,
        `SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
         WHERE application_name = 'craft-ledger' AND datname = current_database()`,
      );
      cut += Number(count);
    }
    running = false;
    await callers;
    await ledgers[1].close();
    // Whatever is under way late in this process.
    await fixture.ledger.balance(jobId);
    expect(cut).toBeGreaterThan(10);
    const counts = await entries();
    expect(Math.min(...counts)).toBeGreaterThan(0);
    await fixture.ledger.leaveUnknownOf(jobId);
    const [reserved, settled, released, unknown] = await entries();
    expect([reserved, settled, released, unknown]).toEqual([0, counts[1], counts[2], counts[3] + counts[0]]);
  });
});

describe('an account', () => {
  it('takes no amounts without an entry, so that nothing but the two functions can move them', async () => {
    const { db, jobId, ledger } = fixture;
    await ledger.reserve(request(5));
    for (const unit of ['prompt_evaluations', 'image_queries', 'requests', 'cost_micro_usd']) {
      const change = `UPDATE ledger_accounts SET ${unit}_reserved = ${unit}_reserved - 1 WHERE id = $1`;
      await expect(query(db.connectionString, change, [jobId])).rejects.toMatchObject({ code: '40001' });
    }
    expect(await entries()).toEqual([1, 0, 0, 0]);
  });
});
