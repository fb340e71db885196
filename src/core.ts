import { randomBytes } from 'node:crypto';
import { hostname } from 'node:os';
import { join } from 'node:path';
import type { Logger } from 'pino';
import { keptSecret } from './access/kept-secret.js';
import { SecretBox } from './access/secret-box.js';
import type { Config } from './config.js';
import { DatasetStore } from './datasets/dataset-store.js';
import { DEFAULT_DATASET_LIMITS } from './datasets/limits.js';
import { createPrismaClient, type Database } from './db/client.js';
import { openDatabase } from './db/open-database.js';
import { fetchImageBy } from './fetch-image.js';
import { Ledger } from './ledger/ledger.js';
import { ResourceFetcher } from './outgoing/resource-fetcher.js';
import { ProviderStore } from './providers/provider-store.js';

/** What every process of the service needs: the stores on the database and the data directory. */
export interface Core {
  connectionString: string;
  /** Names the database for as long as it lives, also when it is restored elsewhere. */
  installation: string;
  database: Database;
  ledger: Ledger;
  datasets: DatasetStore;
  providers: ProviderStore;
  /** Names this process in the ledger and in events. */
  worker: string;
  close(): Promise<void>;
}

/** Opens the database (starting the embedded one where none is configured, migrating it) and the stores. */
export async function openCore(config: Config, log: Logger): Promise<Core> {
  const opened = await openDatabase({ databaseUrl: config.databaseUrl, dataDirectory: config.dataDirectory, log });
  const database = createPrismaClient({ connectionString: opened.connectionString });
  const installation = await installationOf(database);
  const ledger = new Ledger(database, opened.connectionString);
  const addresses = config.providerUrl ? config.addressPolicy.withOrigin(config.providerUrl) : config.addressPolicy;
  const secretKey =
    config.secretKey ?? keptSecret(config.dataDirectory, 'secret-key', () => randomBytes(32).toString('hex')).value;
  const providers = new ProviderStore(database, new SecretBox(secretKey), ledger, addresses);
  const fetcher = new ResourceFetcher(addresses);
  const datasets = new DatasetStore({
    database,
    directory: join(config.dataDirectory, 'files'),
    limits: { ...DEFAULT_DATASET_LIMITS, maxUploadBytes: config.maxUploadBytes },
    fetchImage: fetchImageBy(fetcher),
  });
  return {
    connectionString: opened.connectionString,
    installation,
    database,
    ledger,
    datasets,
    providers,
    worker: `${hostname()}-${process.pid}`,
    async close() {
      await providers.close();
      await fetcher.close();
      await ledger.close();
      await database.$disconnect();
      await opened.close();
    },
  };
}

/** The id of its first migration is drawn when a database is made. */
async function installationOf(database: Database): Promise<string> {
  const [first] = await database.$queryRaw<{ id: string }[]>`
    SELECT id FROM _prisma_migrations ORDER BY migration_name LIMIT 1`;
  return first.id;
}
