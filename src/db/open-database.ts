import type { Logger } from 'pino';
import { checkConnection } from './check-connection.js';
import { withSchema } from './connection-string.js';
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
 * @throws DatabaseUnreachableError when nothing answers there, it refuses the credentials, or its sessions cannot be used.
 * @throws MigrationError when the tables cannot be brought up to date.
 */
export async function openDatabase({ databaseUrl, dataDirectory, log }: OpenDatabaseOptions): Promise<OpenDatabase> {
  if (databaseUrl !== undefined) {
    const schema = await checkConnection(databaseUrl);
    const connectionString = schema === 'public' ? databaseUrl : withSchema(databaseUrl, schema);
    await migrate(connectionString, log);
    return { connectionString, embedded: false, close: async () => {} };
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

async function migrate(connectionString: string, log: Logger): Promise<void> {
  const applied = await applyMigrations(connectionString, undefined, () =>
    log.info('another process brings the database up to date; waiting for it'),
  );
  if (applied.length > 0) log.info({ migrations: applied }, 'brought the database up to date');
}
