import { createHash, randomUUID } from 'node:crypto';
import { existsSync } from 'node:fs';
import { readdir, readFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import pg from 'pg';

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
 * @returns the names of the migrations that this call applied.
 * @throws MigrationError when a migration fails, failed before, was changed after it was applied, or is unknown here.
 */
export async function applyMigrations(
  connectionString: string,
  directory: string = findMigrations(),
): Promise<string[]> {
  const migrations = await readMigrations(directory);
  const client = new pg.Client({ connectionString, application_name: 'craft-migrate' });
  // A connection that breaks rejects the query in flight; without a listener it would end the process as well.
  client.on('error', () => {});
  await client.connect();
  try {
    await client.query('SELECT pg_advisory_lock($1)', [ADVISORY_LOCK]);
    await client.query(CREATE_HISTORY);
    const { rows } = await client.query<AppliedMigration>(
      'SELECT migration_name, checksum, finished_at FROM _prisma_migrations WHERE rolled_back_at IS NULL',
    );
    const pending = comparePending(migrations, rows, directory);
    for (const migration of pending) await applyOne(client, migration);
    return pending.map((migration) => migration.name);
  } finally {
    // Ends the session and with it the advisory lock.
    await client.end();
  }
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
  await client.query('BEGIN');
  try {
    await client.query(migration.sql);
    await client.query(
      `INSERT INTO _prisma_migrations (id, checksum, finished_at, migration_name, applied_steps_count)
       VALUES ($1, $2, clock_timestamp(), $3, 1)`,
      [randomUUID(), migration.checksum, migration.name],
    );
    await client.query('COMMIT');
  } catch (cause) {
    await client.query('ROLLBACK').catch(() => {});
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
