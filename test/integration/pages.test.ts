import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { SecretBox } from '../../src/access/secret-box.js';
import { JobQueries } from '../../src/jobs/job-queries.js';
import { JobReader } from '../../src/jobs/job-reader.js';
import { DEFAULT_PROJECT } from '../../src/ledger/accounts.js';
import { Ledger } from '../../src/ledger/ledger.js';
import { AddressPolicy } from '../../src/outgoing/address-policy.js';
import type { Page, PageRequest } from '../../src/paging.js';
import { ProviderStore } from '../../src/providers/provider-store.js';
import { createProvider, createRunningJob } from '../helpers/ledger-records.js';
import { type TestDatabase, testDatabase } from '../helpers/postgres.js';

/** Lists page by page, with many rows of the same moment; and jobs as the list and as the fast read have them. */

const ROWS = 30;
let db: TestDatabase;
let ledger: Ledger;

beforeAll(async () => {
  db = await testDatabase();
  ledger = new Ledger(db.database, db.connectionString);
});
afterAll(() => ledger.close());

/** Three of each second, so that ids decide between them. */
const momentOf = (i: number) => new Date(Date.UTC(2026, 0, 1, 0, 0, Math.floor(i / 3)));

async function walk<Item>(
  list: (page: PageRequest) => Promise<Page<Item>>,
  idOf: (item: Item) => string,
  limit: number,
): Promise<string[]> {
  const ids: string[] = [];
  for (;;) {
    const { data, hasMore } = await list({ limit, after: ids.at(-1) });
    ids.push(...data.map(idOf));
    expect(ids.length).toBeLessThanOrEqual(ROWS);
    if (!hasMore) return ids;
    expect(data).toHaveLength(limit);
  }
}

describe('pages of providers', () => {
  it('come oldest first, whole, and without what was deleted', async () => {
    const store = new ProviderStore(
      db.database,
      new SecretBox('0f'.repeat(32)),
      ledger,
      AddressPolicy.parse('loopback'),
    );
    const rows = Array.from({ length: ROWS }, (_, i) => ({ id: `prov-${(i * 7) % ROWS}`, createdAt: momentOf(i) }));
    for (const { id, createdAt } of rows) {
      await createProvider(db.database, ledger, id);
      await db.database.provider.update({ where: { id }, data: { createdAt } });
    }
    const deleted = rows[13];
    await db.database.provider.update({ where: { id: deleted.id }, data: { deletedAt: new Date() } });
    const inOrder = [...rows].sort((a, b) => a.createdAt.getTime() - b.createdAt.getTime() || (a.id < b.id ? -1 : 1));
    const expected = inOrder.filter((row) => row !== deleted).map(({ id }) => id);
    for (const limit of [1, 4, ROWS]) {
      expect(
        await walk(
          (page) => store.list(page),
          ({ id }) => id,
          limit,
        ),
      ).toEqual(expected);
    }
    // Whoever stands on a provider goes on from where it was, also after it was deleted.
    const { data } = await store.list({ limit: 2, after: deleted.id });
    const place = inOrder.indexOf(deleted);
    expect(data.map(({ id }) => id)).toEqual(inOrder.slice(place + 1, place + 3).map(({ id }) => id));
    await expect(store.list({ limit: 2, after: 'prov-none' })).rejects.toMatchObject({ code: 'invalid_cursor' });
  });
});

describe('jobs', () => {
  it('are the same in the list and alone, and come newest first, whole', async () => {
    await createProvider(db.database, ledger, 'prov-of-jobs');
    const ids: string[] = [];
    for (let i = 0; i < ROWS; i++) {
      const id = await createRunningJob(db.database, ledger, 'prov-of-jobs', {
        promptEvaluations: 100 + i,
        imageQueries: i % 2 ? null : 5000,
        requests: null,
        costMicroUsd: null,
      });
      ids.push(id);
      await db.database.job.update({ where: { id }, data: { createdAt: momentOf(i) } });
    }
    const adapter = (id: string, jobId: string, second: number) => ({
      id,
      jobId,
      providerId: 'prov-of-jobs',
      classes: ['a', 'b'],
      hyperparameters: {},
      metrics: {},
      weights: new Uint8Array(1),
      createdAt: new Date(Date.UTC(2026, 1, 1, 0, 0, second)),
    });
    // It went on after its success.
    await db.database.adapter.createMany({ data: [adapter('ft:2', ids[3], 2), adapter('ft:1', ids[3], 1)] });
    const amounts = { promptEvaluations: 2, imageQueries: 7, requests: 1, costMicroUsd: 3 };
    const reserved = await Promise.all(
      [ids[0], ids[3]].map((accountId) =>
        ledger.reserve({
          accountId,
          providerId: 'prov-of-jobs',
          purpose: 'candidates',
          amounts,
          guard: { kind: 'running_job', epoch: 1 },
          worker: 'test',
        }),
      ),
    );
    await ledger.settle(reserved[0]);

    const queries = new JobQueries(db.database, ledger);
    const { data: listed } = await queries.list({ limit: ROWS });
    expect(listed).toHaveLength(ROWS);
    const reader = new JobReader(db.database);
    expect(await Promise.all(listed.map(({ job }) => reader.read(job.id)))).toMatchObject(listed);
    expect(await reader.read(ids[3])).toMatchObject({
      model: 'prov-of-jobs',
      fineTunedModel: 'ft:2',
      balance: { imageQueries: { limit: null, used: 0, reserved: 7 } },
    });
    // Who asks at the same time shares a statement, and gets his own.
    const together = ['ftjob-none', ids[1], DEFAULT_PROJECT].map((id) => reader.read(id));
    expect((await Promise.all(together)).map((details) => details?.job.id ?? null)).toEqual([null, ids[1], null]);

    const expected = ids
      .map((id, i) => ({ id, at: momentOf(i).getTime() }))
      .sort((a, b) => b.at - a.at || (a.id < b.id ? 1 : -1))
      .map(({ id }) => id);
    for (const limit of [1, 7, ROWS])
      expect(
        await walk(
          (page) => queries.list(page),
          ({ job }) => job.id,
          limit,
        ),
      ).toEqual(expected);
  });

  it('are listed by their metadata, and by having none', async () => {
    const queries = new JobQueries(db.database, ledger);
    const rows = await db.database.job.findMany({ orderBy: [{ createdAt: 'desc' }, { id: 'desc' }] });
    expect(rows).toHaveLength(ROWS);
    const metadata = (at: number) => ({ team: at % 2 ? 'red' : "blue's", 'a.b': String(at % 3), note: '{"x"}' });
    const tagged = rows.filter((_, at) => at % 5 > 0).map(({ id }, at) => ({ id, metadata: metadata(at) }));
    for (const { id, metadata } of tagged) await db.database.job.update({ where: { id }, data: { metadata } });
    const found = (filter: Record<string, string> | null, limit: number) =>
      walk(
        (page) => queries.list({ ...page, metadata: filter }),
        ({ job }) => job.id,
        limit,
      );
    const filters: Record<string, string>[] = [{ team: 'red' }, { team: "blue's", 'a.b': '1' }, { note: '{"x"}' }];
    for (const filter of filters) {
      const matching = tagged.filter(({ metadata }) =>
        Object.entries(filter).every(([key, value]) => metadata[key as 'team'] === value),
      );
      expect(matching.length).toBeGreaterThan(2);
      for (const limit of [2, ROWS]) expect(await found(filter, limit)).toEqual(matching.map(({ id }) => id));
    }
    for (const filter of [{ team: 'r' }, { nothing: 'red' }, { a: '1' }] as Record<string, string>[]) {
      expect(await found(filter, ROWS)).toEqual([]);
    }
    const untagged = rows.filter((_, at) => at % 5 === 0).map(({ id }) => id);
    expect(await found(null, 4)).toEqual(untagged);
  });
});
