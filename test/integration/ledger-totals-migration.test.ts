import { readdirSync } from 'node:fs';
import { cp, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { beforeEach, describe, expect, it, onTestFinished } from 'vitest';
import { createPrismaClient } from '../../src/db/client.js';
import { applyMigrations } from '../../src/db/migrate.js';
import { Ledger } from '../../src/ledger/ledger.js';
import type { ReservationRequest } from '../../src/ledger/reservation.js';
import { readStateTotals } from '../../src/ledger/state-totals.js';
import { until } from '../helpers/api.js';
import { sumsOfEntries } from '../helpers/ledger-sums.js';
import { emptyDatabase, query } from '../helpers/postgres.js';

/** A database that had a ledger before the totals by state were kept on its accounts. */

const MIGRATIONS = new URL('../../prisma/migrations/', import.meta.url);
const STATE_TOTALS = '20261128000000_state_totals';
const ACCOUNTS = ['ftjob-1', 'ftjob-2', 'ftjob-3', 'prov-1', 'proj-default'];

let connectionString: string;

beforeEach(async () => {
  const directory = await mkdtemp(join(tmpdir(), 'craft-migrations-'));
  onTestFinished(() => rm(directory, { recursive: true, force: true }));
  await cp(MIGRATIONS, directory, { recursive: true });
  for (const name of readdirSync(directory)) {
    if (/^\d/.test(name) && name >= STATE_TOTALS) await rm(join(directory, name), { recursive: true });
  }
  connectionString = await emptyDatabase();
  await applyMigrations(connectionString, directory);
  await query(
    connectionString,
    `INSERT INTO providers (id, name, protocol, base_url, remote_model, settings, capabilities, concurrency,
       images_per_request, prompts_per_request, timeout_ms, price_per_request_nano_usd, price_per_image_query_nano_usd)
     VALUES ('prov-1', 'box', 'open_inference', 'u', 'm', '{}', '{}', 1, 1, 1, 1, 0, 0)`,
  );
  for (const id of ['ftjob-1', 'ftjob-2', 'ftjob-3']) {
    await query(
      connectionString,
      `INSERT INTO jobs (id, status, provider_id, training_file_id, seed, method, plan, planned_generations, epoch)
       VALUES ($1, 'running', 'prov-1', 'f', 1, '{}', '{}', 1, 1)`,
      [id],
    );
  }
  await query(
    connectionString,
    `INSERT INTO ledger_accounts (id, kind, provider_id, project_id) VALUES
       ('prov-1', 'provider', 'prov-1', 'proj-default'), ('prov-1@day', 'provider_day_limits', 'prov-1', NULL),
       ('ftjob-1', 'job', 'prov-1', 'proj-default'), ('ftjob-2', 'job', 'prov-1', 'proj-default'),
       ('ftjob-3', 'job', 'prov-1', 'proj-default')`,
  );
});

function request(job: string, imageQueries: number, key?: string): ReservationRequest {
  return {
    accountId: job,
    providerId: 'prov-1',
    purpose: 'candidates',
    amounts: { promptEvaluations: 1, imageQueries, requests: 1, costMicroUsd: 3 },
    guard: { kind: 'running_job', epoch: 1 },
    worker: 'test',
    purchase: key === undefined ? undefined : { key, windowSeconds: 3600 },
  };
}

/** With the functions that the database has. */
function openLedger() {
  const database = createPrismaClient({ connectionString, poolSize: 2 });
  const ledger = new Ledger(database, connectionString);
  onTestFinished(async () => {
    await ledger.close();
    await database.$disconnect();
  });
  return { database, ledger };
}

describe('the migration that keeps totals by state', () => {
  it('adds up the entries that there are, and what happens to them after it follows', async () => {
    const { database, ledger } = openLedger();
    const draw = (job: string, images: number, key?: string) => ledger.reserve(request(job, images, key));
    await draw('ftjob-1', 1);
    await ledger.settle(await draw('ftjob-1', 2));
    await ledger.settle(await draw('ftjob-1', 4), { billed: { imageQueries: 9, requests: 2, costMicroUsd: 0 } });
    await ledger.release(await draw('ftjob-1', 8, 'released'), 'test');
    await ledger.leaveUnknown(await draw('ftjob-1', 16, 'unknown'), 'test');
    await ledger.release(await draw('ftjob-2', 32), 'test');
    const open = await draw('ftjob-2', 64);

    expect(await applyMigrations(connectionString)).toContain(STATE_TOTALS);
    expect(await readStateTotals(database, 'ftjob-1')).toEqual({
      reserved: { entries: 1, promptEvaluations: 1, imageQueries: 1, requests: 1, costMicroUsd: 3 },
      settled: { entries: 2, promptEvaluations: 2, imageQueries: 11, requests: 3, costMicroUsd: 3 },
      released: { entries: 1, promptEvaluations: 1, imageQueries: 8, requests: 1, costMicroUsd: 3 },
      unknown: { entries: 1, promptEvaluations: 1, imageQueries: 16, requests: 1, costMicroUsd: 3 },
    });
    const agree = async () => {
      for (const id of ACCOUNTS) {
        expect(await readStateTotals(database, id)).toEqual(await sumsOfEntries(connectionString, id));
      }
      expect(await ledger.discrepancies()).toEqual([]);
    };
    await agree();
    await ledger.release(open, 'test');
    await draw('ftjob-1', 100, 'released');
    await ledger.settle(await draw('ftjob-1', 16, 'unknown'));
    await draw('ftjob-3', 5);
    await agree();
  });

  it('counts every call of processes that go on meanwhile', async () => {
    const { database, ledger } = openLedger();
    const other = openLedger().ledger;
    let running = true;
    let calls = 0;
    const caller = async (index: number) => {
      const by = index % 2 === 0 ? ledger : other;
      for (let n = 0; running; n++, calls++) {
        const reservation = await by.reserve(request(`ftjob-${1 + (index % 3)}`, 1 + (n % 3)));
        if (n % 3 === 0) await by.release(reservation, 'test');
        else if (n % 3 === 1) await by.leaveUnknown(reservation, 'test');
        else await by.settle(reservation);
      }
    };
    const callers = Promise.all(Array.from({ length: 12 }, (_, index) => caller(index)));
    await until(async () => calls > 50);
    expect(await applyMigrations(connectionString)).toContain(STATE_TOTALS);
    const after = calls;
    await until(async () => calls > after + 50);
    running = false;
    await callers;
    for (const id of ACCOUNTS) {
      expect(await readStateTotals(database, id)).toEqual(await sumsOfEntries(connectionString, id));
    }
    expect(await ledger.discrepancies()).toEqual([]);
  });
});
