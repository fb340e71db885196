import { PrismaPg } from '@prisma/adapter-pg';
import { openSession } from './connection-string.js';
import { Prisma, PrismaClient } from './generated/client.js';

export type * from './generated/client.js';
export { Prisma };

/** Everything that is stored, as typed tables. */
export type Database = PrismaClient;

export interface ClientOptions {
  connectionString: string;
  /** Connections this process holds at most. */
  poolSize?: number;
  /** The name under which `pg_stat_activity` shows the connections. */
  applicationName?: string;
}

/** A client for one Postgres database. It connects with its first query; `$disconnect()` ends it. */
export function createPrismaClient({ connectionString, poolSize = 10, applicationName }: ClientOptions): Database {
  const { schema, ...session } = openSession(connectionString);
  const adapter = new PrismaPg(
    {
      ...session,
      max: poolSize,
      application_name: applicationName ?? 'craft-server',
      connectionTimeoutMillis: 10_000,
      keepAlive: true,
    },
    { schema },
  );
  // Training states and adapters are megabytes; on a busy disk their transactions outlast Prisma's 5 seconds.
  return new PrismaClient({ adapter, transactionOptions: { maxWait: 15_000, timeout: 60_000 } });
}
