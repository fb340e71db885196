import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import { newId } from '../../src/ids.js';
import { listEntries } from '../../src/ledger/entries.js';
import { Ledger } from '../../src/ledger/ledger.js';
import { type Reservation, ReservationRefusedError } from '../../src/ledger/reservation.js';
import { ledgerFixture } from '../helpers/ledger-fixture.js';
import { LossyProxy } from '../helpers/lossy-proxy.js';
import { query } from '../helpers/postgres.js';

const fixture = ledgerFixture();

/** The purchase `key`, or one of no name, by the job's owner with this epoch. */
const request = (key: string | null, imageQueries: number, epoch = 1) =>
  fixture.request({ key, epoch, amounts: { imageQueries } });

const takeOver = (epoch: number) => fixture.db.database.job.update({ where: { id: fixture.jobId }, data: { epoch } });
const row = ({ id }: Reservation) => fixture.db.database.reservation.findUniqueOrThrow({ where: { id } });

/** Used and reserved image queries of job and provider, which have to be the same. */
async function counted(): Promise<[used: number, reserved: number]> {
  const [job, provider] = [
    await fixture.ledger.balance(fixture.jobId),
    await fixture.ledger.balance(fixture.providerId),
  ];
  expect(provider.imageQueries.used).toBe(job.imageQueries.used);
  expect(provider.imageQueries.reserved).toBe(job.imageQueries.reserved);
  expect(await fixture.ledger.discrepancies()).toEqual([]);
  return [job.imageQueries.used, job.imageQueries.reserved];
}

describe('a purchase that is asked for again', () => {
  it('was settled: it is drawn once', async () => {
    const first = await fixture.ledger.reserve(request('a', 10));
    await fixture.ledger.settle(first);
    const again = await fixture.ledger.reserve(request('a', 10));
    expect(again).toEqual({ ...first, attempt: 2 });
    expect(await counted()).toEqual([0, 10]);
    await fixture.ledger.settle(again);
    expect(await counted()).toEqual([10, 0]);
  });

  it('was left unknown: it is drawn once, by a limit that covers it just once', async () => {
    await fixture.ledger.changeLimits(fixture.jobId, { imageQueries: 10 });
    await fixture.ledger.leaveUnknown(await fixture.ledger.reserve(request('a', 10)), 'timeout');
    expect(await counted()).toEqual([10, 0]);
    await fixture.ledger.settle(await fixture.ledger.reserve(request('a', 10)));
    expect(await counted()).toEqual([10, 0]);
    await expect(fixture.ledger.reserve(request('b', 1))).rejects.toMatchObject({ code: 'budget_exhausted' });
  });

  it('may have been billed: it stays counted though its last attempt was not', async () => {
    await fixture.ledger.leaveUnknown(await fixture.ledger.reserve(request('a', 10)), 'timeout');
    const again = await fixture.ledger.reserve(request('a', 10));
    expect(await fixture.ledger.release(again, 'refused')).toBe(true);
    expect(await row(again)).toMatchObject({ state: 'unknown', attempt: 2, doubtful: true, reason: 'refused' });
    expect(await counted()).toEqual([10, 0]);
  });

  it('was released: it is drawn anew, and may be released again', async () => {
    const first = await fixture.ledger.reserve(request('a', 10));
    await fixture.ledger.release(first, 'refused');
    const again = await fixture.ledger.reserve(request('a', 7));
    expect(again).toEqual({ ...first, attempt: 2 });
    expect(await counted()).toEqual([0, 7]);
    await fixture.ledger.release(again, 'refused');
    expect(await counted()).toEqual([0, 0]);
  });

  it('is another purchase once the provider may have forgotten its key', async () => {
    const first = await fixture.ledger.reserve(request('a', 10));
    await fixture.ledger.settle(first);
    await query(
      fixture.db.connectionString,
      `UPDATE ledger_reservations SET created_at = now() - interval '53 minutes' WHERE id = $1`,
      [String(first.id)],
    );
    expect((await fixture.ledger.reserve(request('a', 10))).id).toBe(first.id);
    await fixture.ledger.settle({ ...first, attempt: 2 });
    await query(
      fixture.db.connectionString,
      `UPDATE ledger_reservations SET created_at = now() - interval '55 minutes' WHERE id = $1`,
      [String(first.id)],
    );
    const other = await fixture.ledger.reserve(request('a', 10));
    expect(other).toMatchObject({ attempt: 1 });
    expect(other.id).not.toBe(first.id);
    const { data } = await listEntries(fixture.db.database, fixture.jobId, { limit: 10 });
    expect(data.map(({ idempotencyKey }) => idempotencyKey)).toEqual([`${fixture.jobId}/a`, `${fixture.jobId}/a`]);
    expect(await counted()).toEqual([10, 10]);
  });

  it('is another purchase then also where its process died before it was closed', async () => {
    const lost = await fixture.ledger.reserve(request('a', 10));
    await query(
      fixture.db.connectionString,
      `UPDATE ledger_reservations SET created_at = now() - interval '55 minutes' WHERE id = $1`,
      [String(lost.id)],
    );
    const again = await fixture.ledger.reserve(request('a', 10));
    expect(again.id).not.toBe(lost.id);
    expect(await counted()).toEqual([0, 20]);
    await fixture.ledger.settle(again);
    await fixture.ledger.leaveUnknown(lost, 'process_lost');
    expect(await counted()).toEqual([20, 0]);
    // By a limit that has no room for it, nothing is sent.
    await fixture.ledger.changeLimits(fixture.jobId, { imageQueries: 35 });
    const third = await fixture.ledger.reserve(request('b', 10));
    await query(
      fixture.db.connectionString,
      `UPDATE ledger_reservations SET created_at = now() - interval '55 minutes' WHERE id = $1`,
      [String(third.id)],
    );
    await expect(fixture.ledger.reserve(request('b', 10))).rejects.toMatchObject({ code: 'budget_exhausted' });
    expect(await counted()).toEqual([20, 10]);
  });

  it('is not taken for one of a lost process because its first attempt was long ago', async () => {
    const first = await fixture.ledger.reserve(request('a', 10));
    await fixture.ledger.leaveUnknown(first, 'timeout');
    await query(
      fixture.db.connectionString,
      `UPDATE ledger_reservations SET created_at = now() - interval '50 minutes', attempted_at = now() - interval '50 minutes'
       WHERE id = $1`,
      [String(first.id)],
    );
    const again = await fixture.ledger.reserve(request('a', 10));
    expect(await fixture.ledger.leaveUnknownOlderThan(30)).toBe(0);
    expect(await fixture.ledger.settle(again)).toBe(true);
  });

  it('is the newest attempt that a closing must name', async () => {
    const first = await fixture.ledger.reserve(request('a', 10));
    const again = await fixture.ledger.reserve(request('a', 10));
    expect(await fixture.ledger.release(first, 'refused')).toBe(false);
    expect(await counted()).toEqual([0, 10]);
    expect(await fixture.ledger.settle(again)).toBe(true);
  });

  it('is closed by its newest attempt, also where the closing of an older one comes with it', async () => {
    const first = await fixture.ledger.reserve(request('a', 10));
    const again = await fixture.ledger.reserve(request('a', 10));
    fixture.ledger.settleLater(first, {});
    fixture.ledger.settleLater(again, { billed: { imageQueries: 7, requests: 1, costMicroUsd: 0 } });
    expect(await counted()).toEqual([7, 0]);
    expect(await row(again)).toMatchObject({ state: 'settled', attempt: 2 });
  });

  it('twice at the same time is drawn once', async () => {
    const both = await Promise.all([
      fixture.ledger.reserve(request('a', 10)),
      fixture.ledger.reserve(request('a', 10)),
    ]);
    expect(both.map(({ attempt }) => attempt)).toEqual([1, 2]);
    expect(await counted()).toEqual([0, 10]);
  });
});

describe('what the provider says it billed', () => {
  it.each([4, 25])('counts in place of what was reserved (%d of 10)', async (imageQueries) => {
    const reservation = await fixture.ledger.reserve(request(null, 10));
    await fixture.ledger.settle(reservation, { billed: { imageQueries, requests: 2, costMicroUsd: 0 } });
    expect(await counted()).toEqual([imageQueries, 0]);
    expect(await fixture.ledger.balance(fixture.jobId)).toMatchObject({
      requests: { used: 2 },
      costMicroUsd: { used: 0 },
    });
  });

  it('counts even where it is more than the limit, and then nothing more can be drawn', async () => {
    await fixture.ledger.changeLimits(fixture.jobId, { imageQueries: 10 });
    const reservation = await fixture.ledger.reserve(request(null, 10));
    expect(
      await fixture.ledger.settle(reservation, { billed: { imageQueries: 12, requests: 1, costMicroUsd: 3 } }),
    ).toBe(true);
    expect((await fixture.ledger.balance(fixture.jobId)).imageQueries.remaining).toBe(-2);
    await expect(fixture.ledger.reserve(request(null, 1))).rejects.toMatchObject({ code: 'budget_exhausted' });
  });

  it('stays what the purchase counts for when it is asked for again and then left unknown', async () => {
    const first = await fixture.ledger.reserve(request('a', 10));
    await fixture.ledger.settle(first, { billed: { imageQueries: 4, requests: 1, costMicroUsd: 3 } });
    await fixture.ledger.leaveUnknown(await fixture.ledger.reserve(request('a', 10)), 'timeout');
    expect(await counted()).toEqual([4, 0]);
  });
});

describe('a newer owner of the job', () => {
  it('takes an open purchase over, and the closing of the older one changes nothing', async () => {
    const older = await fixture.ledger.reserve(request('a', 10));
    await takeOver(2);
    const newer = await fixture.ledger.reserve(request('a', 10, 2));
    for (const close of [
      fixture.ledger.settle(older),
      fixture.ledger.release(older, 'refused'),
      fixture.ledger.leaveUnknown(older, 'timeout'),
    ]) {
      expect(await close).toBe(false);
    }
    expect(await row(newer)).toMatchObject({ state: 'reserved', epoch: 2, attempt: 2, doubtful: true });
    expect(await fixture.ledger.leaveUnknownBefore(fixture.jobId, 2)).toBe(0);
    expect(await fixture.ledger.settle(newer)).toBe(true);
    expect(await counted()).toEqual([10, 0]);
  });

  it('counts what the older one left open, which can close it no more', async () => {
    const older = await fixture.ledger.reserve(request(null, 10));
    await takeOver(2);
    expect(await fixture.ledger.leaveUnknownBefore(fixture.jobId, 2)).toBe(1);
    expect(await fixture.ledger.release(older, 'refused')).toBe(false);
    expect(await counted()).toEqual([10, 0]);
    await expect(fixture.ledger.reserve(request(null, 1))).rejects.toBeInstanceOf(ReservationRefusedError);
  });

  it('keeps the answer that its own attempt was paid for', async () => {
    const answer = (byte: number) => ({ callHash: new Uint8Array(32), logits: new Uint8Array(8).fill(byte) });
    const of = (epoch: number) => ({ ...request('a', 10, epoch), generation: 1, chunk: 0 });
    const older = await fixture.ledger.reserve(of(1));
    await takeOver(2);
    const newer = await fixture.ledger.reserve(of(2));
    await Promise.all([
      fixture.ledger.settle(newer, { answer: answer(2) }),
      fixture.ledger.settle(older, { answer: answer(1) }),
      fixture.ledger.release(newer, 'too late'),
    ]);
    const stored = await fixture.db.database.storedAnswer.findMany({ where: { jobId: fixture.jobId } });
    expect(stored.map(({ logits }) => logits[0])).toEqual([2]);
  });
});

describe('a closing', () => {
  it('that was made already holds, and another one does not', async () => {
    const reservation = await fixture.ledger.reserve(request(null, 10));
    expect(await fixture.ledger.settle(reservation)).toBe(true);
    expect(await fixture.ledger.settle(reservation)).toBe(true);
    expect(await fixture.ledger.release(reservation, 'refused')).toBe(false);
    expect(await counted()).toEqual([10, 0]);
  });

  it('of several at the same time is the first one', async () => {
    const reservation = await fixture.ledger.reserve(request(null, 10));
    const closed = await Promise.all([
      fixture.ledger.release(reservation, 'refused'),
      fixture.ledger.settle(reservation),
      fixture.ledger.release(reservation, 'refused'),
    ]);
    expect(closed).toEqual([true, false, true]);
    expect(await counted()).toEqual([0, 0]);
  });

  it('keeps the last of several answers to one call', async () => {
    const call = { ...request(null, 10), generation: 1, chunk: 0 };
    const reservations = await Promise.all([fixture.ledger.reserve(call), fixture.ledger.reserve(call)]);
    const closed = await Promise.all(
      reservations.map((reservation, i) =>
        fixture.ledger.settle(reservation, {
          answer: { callHash: new Uint8Array(32), logits: new Uint8Array(4).fill(i) },
        }),
      ),
    );
    expect(closed).toEqual([true, true]);
    expect(
      (await fixture.db.database.storedAnswer.findMany({ where: { jobId: fixture.jobId } })).map(
        ({ logits }) => logits[0],
      ),
    ).toEqual([1]);
  });
});

describe('a statement whose answer was lost', () => {
  it('draws nothing again when it is repeated', async () => {
    const body = {
      ...{
        ord: 0,
        account: fixture.jobId,
        provider: fixture.providerId,
        purpose: 'candidates',
        guard: 'running_job',
        epoch: 1,
      },
      ...{ worker: 'test', key: `${fixture.jobId}/a`, token: newId(''), window_seconds: 3600, p: 1, i: 10, r: 1, c: 3 },
    };
    const reserve = async () => {
      const [{ outcomes }] = await query<{ outcomes: unknown }>(
        fixture.db.connectionString,
        'SELECT ledger_reserve($1) AS outcomes',
        [JSON.stringify([body])],
      );
      return outcomes;
    };
    const first = await reserve();
    expect(await reserve()).toEqual(first);
    expect(await counted()).toEqual([0, 10]);
    // And it says so even when the job may not draw any more.
    await fixture.db.database.job.update({
      where: { id: fixture.jobId },
      data: { status: 'paused', pauseReason: 'user' },
    });
    expect(await reserve()).toEqual(first);
    // What was sure stays sure: nothing was sent in between.
    const [{ id }] = first as { id: number }[];
    await fixture.ledger.release({ id: BigInt(id), epoch: 1, attempt: 1 }, 'refused');
    expect(await counted()).toEqual([0, 0]);
    expect(await reserve()).toMatchObject([{ outcome: 'refused' }]);
  });

  it('has the answer that was lost when it is repeated', async () => {
    const url = new URL(fixture.db.connectionString);
    const proxy = await LossyProxy.to(Number(url.port));
    url.port = String(proxy.port);
    const remote = new Ledger(fixture.db.database, url.href);
    const lossy = <T>(call: () => Promise<T>): Promise<T> => {
      proxy.loseNextAnswer();
      return call();
    };
    try {
      await remote.release(await remote.reserve(request(null, 1)), 'refused');
      for (const key of ['a', null]) {
        const settled = await lossy(() => remote.reserve(request(key, 10)));
        expect(settled).toMatchObject({ attempt: 1 });
        expect(await lossy(() => remote.settle(settled))).toBe(true);
        const released = await lossy(() => remote.reserve(request(key && 'b', 20)));
        expect(await lossy(() => remote.release(released, 'refused'))).toBe(true);
        const unknown = await lossy(() => remote.reserve(request(key && 'c', 30)));
        expect(await lossy(() => remote.leaveUnknown(unknown, 'timeout'))).toBe(true);
      }
      expect(proxy.lost).toBe(12);
      expect(await counted()).toEqual([80, 0]);
    } finally {
      await remote.close();
      await proxy.close();
    }
  });

  it('is repeated as often as its connection is cut, and all adds up', async () => {
    let running = true;
    let calls = 0;
    const caller = async (index: number) => {
      for (let n = 0; running; n++) {
        const reservation = await fixture.ledger.reserve(request(index % 2 === 0 ? `${index} ${n}` : null, 1));
        expect(reservation.attempt).toBe(1);
        expect(await fixture.ledger.settle(reservation)).toBe(true);
        calls++;
      }
    };
    const callers = Promise.all(Array.from({ length: 12 }, (_, index) => caller(index)));
    let cut = 0;
    for (let round = 0; round < 60; round++) {
      await sleep(Math.random() * 30);
      const [{ count }] = await query<{ count: string }>(
        fixture.db.connectionString,
        `SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
         WHERE application_name = 'craft-ledger' AND datname = current_database()`,
      );
      cut += Number(count);
    }
    running = false;
    await callers;
    expect(cut).toBeGreaterThan(10);
    expect(await counted()).toEqual([calls, 0]);
    const rows = await fixture.db.database.reservation.groupBy({
      by: ['state', 'attempt', 'doubtful'],
      where: { accountId: fixture.jobId },
      _count: true,
    });
    expect(rows).toEqual([{ state: 'settled', attempt: 1, doubtful: false, _count: calls }]);
  });
});
