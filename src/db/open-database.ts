import pg from 'pg';
import type { Logger } from 'pino';
import { describeConnection } from './connection-string.js';
import { openEmbeddedPostgres } from './embedded-postgres.js';
import { applyMigrations } from './migrate.js';

export interface OpenDatabase {
  connectionString: string;
  /** Whether this is the Postgres that craft-server runs itself. */
  embedded: boolean;
  /** Gives the database back; the embedded server stops when its last user did so. */
  close(): Promise<void>;
}

export interface OpenDatabaseOptions {
  /** A Postgres of the operator's; without it the embedded one is started. */
  databaseUrl?: string;
  dataDirectory: string;
  log: Logger;
}

/**
 * Opens the operator's Postgres or the embedded one and brings its tables up to date.
 * @throws DatabaseUnreachableError when nothing answers there, or it refuses the credentials.
 * @throws MigrationError when the tables cannot be brought up to date.
 */
export async function openDatabase({ databaseUrl, dataDirectory, log }: OpenDatabaseOptions): Promise<OpenDatabase> {
  if (databaseUrl !== undefined) {
    await checkReachable(databaseUrl);
    await migrate(databaseUrl, log);
    return { connectionString: databaseUrl, embedded: false, close: async () => {} };
  }
  const server = await openEmbeddedPostgres(dataDirectory, log);
  try {
    await migrate(server.connectionString, log);
  } catch (error) {
    await server.close();
    throw error;
  }
  return { connectionString: server.connectionString, embedded: true, close: () => server.close() };
}

/** Postgres does not answer or does not let us in. */
export class DatabaseUnreachableError extends Error {
  override readonly name = 'DatabaseUnreachableError';
}

async function migrate(connectionString: string, log: Logger): Promise<void> {
  const applied = await applyMigrations(connectionString);
  if (applied.length > 0) log.info({ migrations: applied }, 'brought the database up to date');
}

async function checkReachable(connectionString: string): Promise<void> {
  const client = new pg.Client({ connectionString, connectionTimeoutMillis: 10_000 });
  client.on('error', () => {});
  try {
    await client.connect();
  } catch (cause) {
    throw new DatabaseUnreachableError(
      `Postgres at ${describeConnection(connectionString)} cannot be used: ${reasonOf(cause)} Check DATABASE_URL, or ` +
        'leave it unset to use the Postgres that craft-server brings along.',
      { cause },
    );
  } finally {
    await client.end().catch(() => {});
  }
}

/** What went wrong, in words of our own: messages of drivers may repeat the connection string. */
function reasonOf(cause: unknown): string {
  const code = (cause as { code?: string }).code ?? '';
  const reasons: Record<string, string> = {
    ECONNREFUSED: 'nothing listens there.',
    ENOTFOUND: 'its host name is not known.',
    EAI_AGAIN: 'its host name cannot be looked up now.',
    ETIMEDOUT: 'it does not answer.',
    '28P01': 'it refuses the user name or password.',
    '28000': 'it refuses the user.',
    '3D000': 'it has no database of that name.',
    '53300': 'it has no connection left.',
    '57P03': 'it is starting up or shutting down.',
  };
  return reasons[code] ?? (code === '' ? 'it does not answer in time.' : `the connection failed (${code}).`);
}
