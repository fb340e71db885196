import { existsSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import pino from 'pino';
import type { TestProject } from 'vitest/node';
import { openDatabase } from '../../src/db/open-database.js';

declare module 'vitest' {
  interface ProvidedContext {
    /** The server that all test files share; its database `craft` is migrated and serves as template only. */
    postgres: string;
  }
}

/** Runs one embedded Postgres for the whole test run. */
export default async function setup(project: TestProject): Promise<() => Promise<void>> {
  if (!existsSync(new URL('../../dist/db/embedded-postgres.js', import.meta.url))) {
    throw new Error('Some tests start processes from dist, which is not there. Run: npm run build');
  }
  const dataDirectory = await mkdtemp(join(tmpdir(), 'craft-tests-'));
  const database = await openDatabase({ dataDirectory, log: pino({ level: 'silent' }) });
  project.provide('postgres', database.connectionString);
  return async () => {
    await database.close();
    await rm(dataDirectory, { recursive: true, force: true });
  };
}
