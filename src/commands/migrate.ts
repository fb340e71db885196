import type { Config } from '../config.js';
import { openDatabase } from '../db/open-database.js';
import { createLogger } from '../logger.js';

/** Applies the migrations and ends. */
export async function migrate(config: Config): Promise<void> {
  const log = createLogger(config.logLevel, 'migrate');
  const opened = await openDatabase({ databaseUrl: config.databaseUrl, dataDirectory: config.dataDirectory, log });
  await opened.close();
  process.stdout.write('The database is up to date.\n');
}
