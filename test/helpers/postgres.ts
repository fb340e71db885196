import { randomBytes } from 'node:crypto';
import pg from 'pg';
import { afterAll, inject } from 'vitest';
import { createPrismaClient, type Database } from '../../src/db/client.js';

export interface TestDatabase {
  connectionString: string;
  database: Database;
}

const cleanups: (() => Promise<unknown>)[] = [];
// Registered while the test file is read, because hooks made within hooks are lost.
afterAll(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

/** A fresh, migrated database on the server that all test files share. It is dropped after the tests of the file. */
export async function testDatabase(): Promise<TestDatabase> {
  const connectionString = await createDatabase('TEMPLATE craft');
  const database = createPrismaClient({ connectionString, poolSize: 8 });
  cleanups.push(() => database.$disconnect());
  return { connectionString, database };
}

/** A fresh database without any table. */
export function emptyDatabase(): Promise<string> {
  return createDatabase('TEMPLATE template0');
}

/** Runs one statement on a connection of its own. */
export async function query<Row extends pg.QueryResultRow>(
  connectionString: string,
  sql: string,
  values?: unknown[],
): Promise<Row[]> {
  const client = new pg.Client({ connectionString });
  await client.connect();
  try {
    return (await client.query<Row>(sql, values)).rows;
  } finally {
    await client.end();
  }
}

async function createDatabase(options: string): Promise<string> {
  const url = new URL(inject('postgres'));
  const name = `test_${randomBytes(6).toString('hex')}`;
  await query(maintenance(), `CREATE DATABASE ${name} ${options}`);
  url.pathname = name;
  cleanups.push(() => dropDatabase(url.href));
  return url.href;
}

async function dropDatabase(connectionString: string): Promise<void> {
  await query(maintenance(), `DROP DATABASE IF EXISTS ${new URL(connectionString).pathname.slice(1)} WITH (FORCE)`);
}

function maintenance(): string {
  const url = new URL(inject('postgres'));
  url.pathname = 'postgres';
  return url.href;
}
