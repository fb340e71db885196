import { createHash, randomUUID } from 'node:crypto';
import { existsSync } from 'node:fs';
import { readdir, readFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import pg from 'pg';
import { openSession } from './connection-string.js';

/** The lock that `prisma migrate` takes too, so that the two never run side by side. */
const ADVISORY_LOCK = 72707369;

/** Exactly Prisma's table, so that `prisma migrate deploy` and this runner agree on what was applied. */
const CREATE_HISTORY = `
  CREATE TABLE IF NOT EXISTS _prisma_migrations (
    id                  VARCHAR(36) PRIMARY KEY NOT NULL,
    checksum            VARCHAR(64) NOT NULL,
    finished_at         TIMESTAMPTZ,
    migration_name      VARCHAR(255) NOT NULL,
    logs                TEXT,
    rolled_back_at      TIMESTAMPTZ,
    started_at          TIMESTAMPTZ NOT NULL DEFAULT now(),
    applied_steps_count INTEGER NOT NULL DEFAULT 0
  )`;

interface Migration {
  name: string;
  sql: string;
  checksum: string;
}

interface AppliedMigration {
  migration_name: string;
  checksum: string;
  finished_at: Date | null;
}

/** The database and the files of `prisma/migrations` do not fit together; the message says what to do. */
export class MigrationError extends Error {
  override readonly name = 'MigrationError';
}

/**
 * Applies the migrations that the database does not have yet, each in a transaction of its own. Callers in other
 * processes wait for each other, so every process may call this at its start.
 * @param onWait called once, when another process is at it, before waiting for that
 * @returns the names of the migrations that this call applied.
 * @throws MigrationError when a migration fails, failed before, was changed after it was applied, or is unknown here.
 */
export async function applyMigrations(
  connectionString: string,
  directory: string = findMigrations(),
  onWait: () => void = () => {},
): Promise<string[]> {
  const migrations = await readMigrations(directory);
  const { schema, options, ...session } = openSession(connectionString);
  const client = new pg.Client({
    ...session,
    // What a role allows its statements may be less than a large table takes.
    options: `${options} -c statement_timeout=0`,
    application_name: 'craft-migrate',
  });
  // A connection that breaks rejects the query in flight; without a listener it would end the process as well.
  client.on('error', () => {});
  await client.connect();
  try {
    const applied: string[] = [];
    let waited = false;
    const tell = () => {
      if (!waited) onWait();
      waited = true;
    };
    for (;;) {
      const name = await inTransaction(client, async () => {
        await lock(client, tell);
        if (schema !== undefined) await makeSchema(client, schema);
        await client.query(CREATE_HISTORY);
        const { rows } = await client.query<AppliedMigration>(
          'SELECT migration_name, checksum, finished_at FROM _prisma_migrations WHERE rolled_back_at IS NULL',
        );
        const [next] = comparePending(migrations, rows, directory);
        if (next !== undefined) await applyOne(client, next);
        return next?.name;
      });
      if (name === undefined) return applied;
      applied.push(name);
    }
  } finally {
    await client.end();
  }
}

/** Of the transaction, not of the session: behind a pooler a session outlives its client, and the lock would stay for good. */
async function lock(client: pg.Client, onWait: () => void): Promise<void> {
  const { rows } = await client.query('SELECT pg_try_advisory_xact_lock($1) AS taken', [ADVISORY_LOCK]);
  if (rows[0].taken) return;
  onWait();
  await client.query('SELECT pg_advisory_xact_lock($1)', [ADVISORY_LOCK]);
}

async function makeSchema(client: pg.Client, schema: string): Promise<void> {
  // Where it is there, no right to make one is needed.
  const { rows } = await client.query('SELECT 1 FROM pg_namespace WHERE nspname = $1', [schema]);
  if (rows.length === 0) await client.query(`CREATE SCHEMA ${pg.escapeIdentifier(schema)}`);
}

async function inTransaction<T>(client: pg.Client, work: () => Promise<T>): Promise<T> {
  await client.query('BEGIN');
  try {
    const result = await work();
    await client.query('COMMIT');
    return result;
  } catch (error) {
    await client.query('ROLLBACK').catch(() => {});
    if (error instanceof MigrationError || !isRefusal(error)) throw error;
    throw new MigrationError(
      `The tables cannot be made: ${error.message}. The user of DATABASE_URL needs the right to create in its schema; ` +
        'for a schema of its own: CREATE SCHEMA craft AUTHORIZATION <user>, and ?schema=craft at the end of DATABASE_URL.',
      { cause: error },
    );
  }
}

/** Insufficient privilege, or no schema of the search path is there. */
function isRefusal(error: unknown): error is Error {
  return error instanceof Error && ['42501', '3F000'].includes((error as { code?: string }).code ?? '');
}

function comparePending(migrations: Migration[], applied: AppliedMigration[], directory: string): Migration[] {
  const known = new Map(migrations.map((migration) => [migration.name, migration]));
  for (const row of applied) {
    const migration = known.get(row.migration_name);
    if (row.finished_at === null) {
      throw new MigrationError(
        `Migration ${row.migration_name} was started by \`prisma migrate\` and did not finish. Repair the database, then ` +
          `run \`npx prisma migrate resolve --rolled-back ${row.migration_name}\` (or --applied) and start again.`,
      );
    }
    if (migration === undefined) {
      throw new MigrationError(
        `The database has migration ${row.migration_name}, which ${directory} does not. It belongs to a newer ` +
          'craft-server: start that version, or use another database.',
      );
    }
    if (migration.checksum !== row.checksum) {
      throw new MigrationError(
        `Migration ${row.migration_name} was changed after it was applied to this database. Restore its migration.sql ` +
          'and put the change into a new migration.',
      );
    }
  }
  const names = new Set(applied.map((row) => row.migration_name));
  return migrations.filter((migration) => !names.has(migration.name));
}

async function applyOne(client: pg.Client, migration: Migration): Promise<void> {
  try {
    await client.query(migration.sql);
    await client.query(
      `INSERT INTO _prisma_migrations (id, checksum, finished_at, migration_name, applied_steps_count)
       VALUES ($1, $2, clock_timestamp(), $3, 1)`,
      [randomUUID(), migration.checksum, migration.name],
    );
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause);
    throw new MigrationError(
      `Migration ${migration.name} failed and was rolled back: ${reason}. The database is as it was before; correct ` +
        'the cause (often a missing right to create tables, or tables that were there already) and start again.',
      { cause },
    );
  }
}

async function readMigrations(directory: string): Promise<Migration[]> {
  const entries = await readdir(directory, { withFileTypes: true });
  const names = entries.filter((entry) => entry.isDirectory()).map((entry) => entry.name);
  return Promise.all(
    names.sort().map(async (name) => {
      const sql = await readFile(join(directory, name, 'migration.sql'), 'utf8');
      return { name, sql, checksum: createHash('sha256').update(sql).digest('hex') };
    }),
  );
}

/** `prisma/migrations` of the project that this file, compiled or not, belongs to. */
function findMigrations(): string {
  for (let folder = dirname(fileURLToPath(import.meta.url)); ; folder = dirname(folder)) {
    const candidate = join(folder, 'prisma', 'migrations');
    if (existsSync(join(candidate, 'migration_lock.toml'))) return candidate;
    if (folder === dirname(folder)) {
      throw new MigrationError(
        `prisma/migrations was not found above ${fileURLToPath(import.meta.url)}. Install craft-server with its ` +
          'prisma folder next to dist.',
      );
    }
  }
}
