import { createHash, randomBytes } from 'node:crypto';
import { readdirSync } from 'node:fs';
import { cp, mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import pg from 'pg';
import { afterEach, beforeEach, describe, expect, it, onTestFinished } from 'vitest';
import { applyMigrations } from '../../src/db/migrate.js';
import { emptyDatabase, query, testDatabase } from '../helpers/postgres.js';
import { tablesOfDatabase, tablesOfSchema } from '../helpers/postgres-schema.js';

const MIGRATIONS = new URL('../../prisma/migrations/', import.meta.url);
const INIT = '20261124000000_init';
/** In the order in which they must be applied. */
const ALL = readdirSync(MIGRATIONS)
  .filter((name) => /^\d/.test(name))
  .sort();
const LATER = '20990101000000_later';

interface HistoryRow {
  checksum: string;
  migration_name: string;
  applied_steps_count: number;
  finished: boolean;
}

function history(connectionString: string): Promise<HistoryRow[]> {
  return query(
    connectionString,
    `SELECT checksum, migration_name, applied_steps_count, finished_at >= started_at AS finished
     FROM _prisma_migrations ORDER BY migration_name`,
  );
}

describe('applyMigrations', () => {
  let directory: string;
  let database: string;

  beforeEach(async () => {
    directory = await mkdtemp(join(tmpdir(), 'craft-migrations-'));
    await cp(MIGRATIONS, directory, { recursive: true });
  });
  afterEach(() => rm(directory, { recursive: true, force: true }));

  async function addMigration(sql: string): Promise<void> {
    await mkdir(join(directory, LATER), { recursive: true });
    await writeFile(join(directory, LATER, 'migration.sql'), sql);
  }

  describe('on an empty database', () => {
    beforeEach(async () => {
      database = await emptyDatabase();
    });

    it('applies everything once and leaves the history that Prisma would', async () => {
      expect(await applyMigrations(database)).toEqual(ALL);
      const before = await tablesOfDatabase(database);
      expect(await applyMigrations(database)).toEqual([]);
      expect(await tablesOfDatabase(database)).toEqual(before);
      const expected = ALL.map(async (name) => {
        const sql = await readFile(new URL(`${name}/migration.sql`, MIGRATIONS));
        const checksum = createHash('sha256').update(sql).digest('hex');
        return { checksum, migration_name: name, applied_steps_count: 1, finished: true };
      });
      expect(await history(database)).toEqual(await Promise.all(expected));
    });

    it('lets callers at the same time wait for each other', async () => {
      const applied = await Promise.all(Array.from({ length: 6 }, () => applyMigrations(database)));
      expect(applied.flat().sort()).toEqual(ALL);
      expect(await history(database)).toHaveLength(ALL.length);
    });

    it('says that it waits for somebody else, and leaves no lock behind in a session that a pooler goes on with', async () => {
      const other = new pg.Client({ connectionString: database });
      await other.connect();
      await other.query('BEGIN; SELECT pg_advisory_xact_lock(72707369)');
      let letGo: Promise<unknown> | undefined;
      const applied = await applyMigrations(database, undefined, () => {
        letGo = other.query('COMMIT');
      });
      expect(letGo).toBeDefined();
      await letGo;
      expect(applied).toEqual(ALL);
      await other.end();
    });

    it('takes longer than the role lets its statements take', async () => {
      await addMigration('SELECT pg_sleep(0.3); CREATE TABLE later (id TEXT);');
      const hasty = new URL(database);
      hasty.searchParams.set('options', '-c statement_timeout=200');
      await expect(applyMigrations(hasty.href, directory)).resolves.toContain(LATER);
    });

    it('makes the schema that is named, and says which right is missing', async () => {
      const role = `r_${randomBytes(6).toString('hex')}`;
      await query(database, `CREATE ROLE ${role} LOGIN PASSWORD 'pw'`);
      onTestFinished(async () => void (await query(database, `DROP OWNED BY ${role}; DROP ROLE ${role}`)));
      const restricted = new URL(database);
      [restricted.username, restricted.password] = [role, 'pw'];
      await expect(applyMigrations(restricted.href)).rejects.toThrow(/needs the right to create.*AUTHORIZATION/);
      restricted.searchParams.set('schema', 'own');
      await expect(applyMigrations(restricted.href)).rejects.toThrow(/needs the right to create.*AUTHORIZATION/);
      await query(database, `CREATE SCHEMA own AUTHORIZATION ${role}`);
      expect(await applyMigrations(restricted.href)).toEqual(ALL);
      expect(await query(database, 'SELECT * FROM own.jobs')).toEqual([]);
      const mine = new URL(database);
      mine.searchParams.set('schema', 'made');
      expect(await applyMigrations(mine.href)).toEqual(ALL);
    });

    it('applies only what is new', async () => {
      await applyMigrations(database, directory);
      await addMigration('CREATE TABLE later (id TEXT);');
      expect(await applyMigrations(database, directory)).toEqual([LATER]);
    });

    it('undoes a migration that fails, says so, and applies it once it is corrected', async () => {
      await addMigration('CREATE TABLE later (id TEXT); SELECT nonsense;');
      await expect(applyMigrations(database, directory)).rejects.toThrow(
        /20990101000000_later failed and was rolled back: .*nonsense/,
      );
      expect((await history(database)).map((row) => row.migration_name)).toEqual(ALL);
      await addMigration('CREATE TABLE later (id TEXT);');
      expect(await applyMigrations(database, directory)).toEqual([LATER]);
    });

    it('refuses a migration that was changed after it was applied', async () => {
      await applyMigrations(database, directory);
      await writeFile(join(directory, INIT, 'migration.sql'), '-- nothing');
      await expect(applyMigrations(database, directory)).rejects.toThrow(/was changed after it was applied.*Restore/);
    });

    it('refuses a database of a newer version', async () => {
      await addMigration('CREATE TABLE later (id TEXT);');
      await applyMigrations(database, directory);
      await expect(applyMigrations(database)).rejects.toThrow(/newer craft-server/);
    });

    it('refuses what Prisma began and did not finish, but not what was marked as rolled back', async () => {
      await applyMigrations(database, directory);
      await addMigration('CREATE TABLE later (id TEXT);');
      await query(
        database,
        `INSERT INTO _prisma_migrations (id, checksum, migration_name) VALUES ('1', 'x', '${LATER}')`,
      );
      await expect(applyMigrations(database, directory)).rejects.toThrow(/prisma migrate resolve/);
      await query(database, "UPDATE _prisma_migrations SET rolled_back_at = now() WHERE id = '1'");
      expect(await applyMigrations(database, directory)).toEqual([LATER]);
    });
  });
});

describe('the tables', async () => {
  const { connectionString } = await testDatabase();

  it('are those of schema.prisma', async () => {
    const schema = await readFile(new URL('../../prisma/schema.prisma', import.meta.url), 'utf8');
    const expected = tablesOfSchema(schema);
    expect(Object.keys(expected).length).toBeGreaterThan(10);
    expect(await tablesOfDatabase(connectionString)).toEqual(expected);
  });

  it('store weights, states, embeddings and answers uncompressed', async () => {
    const rows = await query(
      connectionString,
      `SELECT attrelid::regclass::text AS table, attname AS column FROM pg_attribute
       WHERE attstorage = 'e' AND attrelid::regclass::text IN
         ('checkpoints', 'training_states', 'image_embeddings', 'scored_prompts') ORDER BY 1`,
    );
    expect(rows).toEqual([
      { table: 'checkpoints', column: 'weights' },
      { table: 'image_embeddings', column: 'embedding' },
      { table: 'scored_prompts', column: 'answer' },
      { table: 'training_states', column: 'state' },
    ]);
  });

  it('have one live provider per name', async () => {
    const insert = (id: string, deleted: string) =>
      query(
        connectionString,
        `INSERT INTO providers (id, name, protocol, base_url, remote_model, settings, capabilities, concurrency,
           images_per_request, prompts_per_request, timeout_ms, price_per_request_nano_usd,
           price_per_image_query_nano_usd, deleted_at)
         VALUES ('${id}', 'same', 'p', 'u', 'm', '{}', '{}', 1, 1, 1, 1, 0, 0, ${deleted})`,
      );
    await insert('a', 'now()');
    await insert('b', 'NULL');
    await expect(insert('c', 'NULL')).rejects.toMatchObject({ constraint: 'providers_name_live_key' });
    await query(connectionString, "UPDATE providers SET deleted_at = now() WHERE id = 'b'");
    await insert('c', 'NULL');
  });

  it.each(['prompt_evaluations', 'image_queries', 'requests', 'cost_micro_usd'])(
    'never let an account pass its limit of %s',
    async (unit) => {
      await query(
        connectionString,
        `INSERT INTO ledger_accounts (id, kind, ${unit}_limit) VALUES ('${unit}', 'job', 10)`,
      );
      const set = (used: number, reserved: number) =>
        query(
          connectionString,
          `UPDATE ledger_accounts SET ${unit}_used = $1, ${unit}_reserved = $2, entries_reserved = entries_reserved + 1
           WHERE id = '${unit}'`,
          [used, reserved],
        );
      await set(4, 6);
      await expect(set(4, 7)).rejects.toThrow('would be overdrawn');
      await expect(set(-1, 0)).rejects.toThrow('would hold less than nothing');
      await expect(set(0, -1)).rejects.toThrow('would hold less than nothing');
      // A provider that billed more than was reserved is counted; nothing more can be drawn then.
      await set(12, 0);
      await expect(set(12, 1)).rejects.toThrow('would be overdrawn');
      await query(connectionString, `UPDATE ledger_accounts SET ${unit}_limit = NULL WHERE id = '${unit}'`);
      await set(500, 600);
    },
  );

  it('know only some kinds of accounts, states of a reservation and of a job', async () => {
    const open = (id: string, kind: string) =>
      query(connectionString, 'INSERT INTO ledger_accounts (id, kind) VALUES ($1, $2)', [id, kind]);
    await open('states', 'job');
    await expect(open('kinds', 'person')).rejects.toThrow('no ledger accounts of kind person');
    const reserve = (state: string, amount: number) =>
      query(
        connectionString,
        `INSERT INTO ledger_reservations (account_id, provider_id, accounts, purchase_key, purpose, state, attempt, worker,
           prompt_evaluations, image_queries, requests, cost_micro_usd)
         VALUES ('states', 'p', '{states}', gen_random_uuid(), 'predict', $1, 1, 'w', $2, 1, 1, 1)`,
        [state, amount],
      );
    for (const state of ['reserved', 'settled', 'released', 'unknown']) await reserve(state, 0);
    await expect(reserve('open', 1)).rejects.toMatchObject({ constraint: 'ledger_reservations_state_check' });
    await expect(reserve('reserved', -1)).rejects.toMatchObject({ constraint: 'ledger_reservations_amounts_check' });

    const addJob = (status: string) =>
      query(
        connectionString,
        `INSERT INTO jobs (id, status, provider_id, training_file_id, seed, method, plan, planned_generations)
         SELECT $1, $1, id, 'f', 1, '{}', '{}', 1 FROM providers LIMIT 1`,
        [status],
      );
    for (const status of ['validating_files', 'queued', 'running', 'succeeded', 'failed', 'cancelled']) {
      await addJob(status);
    }
    await expect(addJob('lost')).rejects.toMatchObject({ constraint: 'jobs_status_check' });
    // Whoever pauses a job says why.
    await expect(addJob('paused')).rejects.toMatchObject({ constraint: 'jobs_pause_check' });
  });
});

describe('the database of an earlier version', () => {
  const BLACK_BOX = '20261126000000_any_black_box';

  it('keeps its providers and what its ledger counted, with nothing noted', async () => {
    const directory = await mkdtemp(join(tmpdir(), 'craft-migrations-'));
    onTestFinished(() => rm(directory, { recursive: true, force: true }));
    await cp(MIGRATIONS, directory, { recursive: true });
    for (const name of ALL.slice(ALL.indexOf(BLACK_BOX))) await rm(join(directory, name), { recursive: true });
    const database = await emptyDatabase();
    await applyMigrations(database, directory);
    await query(
      database,
      `INSERT INTO providers (id, name, protocol, base_url, remote_model, settings, capabilities, concurrency,
         images_per_request, prompts_per_request, timeout_ms, price_per_request_nano_usd, price_per_image_query_nano_usd)
       VALUES ('p', 'box', 'open_inference', 'u', 'm', '{}', '{}', 1, 1, 1, 1, 5, 7)`,
    );
    await query(
      database,
      `INSERT INTO ledger_accounts (id, kind, requests_used, image_queries_used) VALUES ('a', 'adapter', 1, 3)`,
    );
    await query(
      database,
      `INSERT INTO ledger_reservations (account_id, provider_id, accounts, purchase_key, purpose, state, attempt, worker,
         prompt_evaluations, image_queries, requests, cost_micro_usd)
       VALUES ('a', 'p', '{a}', 'k', 'predict', 'settled', 1, 'w', 0, 3, 1, 0)`,
    );
    expect(await applyMigrations(database)).toContain(BLACK_BOX);
    expect(await query(database, 'SELECT tokens_per_second, price_per_input_token_pico_usd FROM providers')).toEqual([
      { tokens_per_second: null, price_per_input_token_pico_usd: '0' },
    ]);
    const noted = 'input_tokens, output_tokens, text_embeddings';
    expect(await query(database, `SELECT image_queries_used, ${noted} FROM ledger_accounts WHERE id = 'a'`)).toEqual([
      { image_queries_used: '3', input_tokens: '0', output_tokens: '0', text_embeddings: '0' },
    ]);
    expect(await query(database, 'SELECT id FROM ledger_discrepancies')).toEqual([]);
  });
});

describe('the client', async () => {
  const { connectionString, database } = await testDatabase();

  it('reads and writes times as they are, whatever the zone of the server', async () => {
    const name = new URL(connectionString).pathname.slice(1);
    await query(connectionString, `ALTER DATABASE ${name} SET timezone = 'Asia/Kathmandu'`);
    const at = new Date('2026-03-04T05:06:07.089Z');
    await database.apiKey.create({ data: { id: 'k', name: 'n', hash: Buffer.from('h'), createdAt: at } });
    const found = await database.apiKey.findUniqueOrThrow({ where: { id: 'k' } });
    expect(found.createdAt).toEqual(at);
    const [{ epoch }] = await query<{ epoch: string }>(
      connectionString,
      'SELECT extract(epoch FROM created_at) * 1000 AS epoch FROM api_keys',
    );
    expect(Number(epoch)).toBe(at.getTime());
  });
});
