import { readFileSync } from 'node:fs';
import type { AddressInfo } from 'node:net';
import type { Logger } from 'pino';
import { ApiKeys } from './access/api-keys.js';
import { ensureDataDirectory } from './access/data-directory.js';
import { keptSecret } from './access/kept-secret.js';
import { AdapterStore } from './adapters/adapter-store.js';
import { Predictor } from './adapters/predictor.js';
import { testProvider } from './adapters/provider-test.js';
import { RepeatableRequests } from './adapters/repeatable-requests.js';
import type { Config } from './config.js';
import type { Core } from './core.js';
import { buildApp } from './http/app.js';
import { EventFeed } from './jobs/event-feed.js';
import { JobControl } from './jobs/job-control.js';
import { JobPlanner } from './jobs/job-planner.js';
import { JobQueries } from './jobs/job-queries.js';
import { JobService } from './jobs/job-service.js';
import { Mending } from './jobs/mending.js';
import { startUpkeep } from './jobs/upkeep.js';
import { openQueueConnection, openTrainingQueue } from './queue/queue.js';

export interface ApiServer {
  url: string;
  apiKey: string;
  /** Whether the key was made by this start, so that it should be shown once. */
  apiKeyIsNew: boolean;
  close(): Promise<void>;
}

export function packageVersion(): string {
  const path = new URL('../package.json', import.meta.url);
  return (JSON.parse(readFileSync(path, 'utf8')) as { version: string }).version;
}

/** Starts the HTTP API on the core: queue, event feed, API key, then the listening socket. */
export async function startApiServer(core: Core, config: Config, log: Logger): Promise<ApiServer> {
  ensureDataDirectory(config.dataDirectory);
  const { database, ledger, datasets, providers, worker, connectionString, installation } = core;
  const connection = openQueueConnection({ redisUrl: config.redisUrl, connectionString, installation });
  const queue = await openTrainingQueue(connection, log);
  const events = new EventFeed(connectionString, log);
  await events.open();
  const jobQueries = new JobQueries(database, ledger);
  const planner = new JobPlanner(database, ledger, datasets, providers);
  const jobs = new JobService(database, ledger, planner, jobQueries, queue, log);
  const jobControl = new JobControl(database, ledger, planner, jobQueries, queue, log);
  const apiKeys = new ApiKeys(database);
  const key = config.apiKey
    ? { value: config.apiKey, made: false }
    : keptSecret(config.dataDirectory, 'api-key', ApiKeys.generate);
  await apiKeys.ensure(key.value, 'first key');
  await datasets.sweep();

  const app = await buildApp(
    {
      apiKeys,
      datasets,
      providers,
      planner,
      jobs,
      jobControl,
      jobQueries,
      events,
      adapters: new AdapterStore(database, ledger, providers),
      predictor: new Predictor(database, ledger, providers, worker, config.predictBatchMs),
      repeatable: new RepeatableRequests(database, log),
      testQuery: (id, query) => testProvider(core, id, query),
      ledger,
      async checkReady() {
        await Promise.all([database.$queryRaw`SELECT 1`, queue.ping()]);
      },
      async gauges() {
        const [byStatus, counts] = await Promise.all([
          database.job.groupBy({ by: ['status'], _count: true }),
          queue.counts(),
        ]);
        return [
          ...byStatus.map(({ status, _count: value }) => ({
            name: 'craft_jobs',
            help: 'Jobs by status.',
            labels: { status },
            value,
          })),
          ...Object.entries(counts).map(([state, value]) => ({
            name: 'craft_queue_jobs',
            help: 'Entries of the training queue by state.',
            labels: { state },
            value: Number(value),
          })),
        ];
      },
    },
    {
      version: packageVersion(),
      logger: log,
      maxUploadBytes: config.maxUploadBytes,
      maxPredictBytes: config.maxPredictBytes,
      rateLimitPerMinute: config.rateLimitPerMinute,
      corsOrigins: config.corsOrigins,
      trustedProxies: config.trustedProxies,
    },
  );
  await app.listen({ host: config.host, port: config.port });
  const { upkeepSeconds: intervalSeconds } = config;
  const mending = new Mending({ database, ledger, datasets, providers, queue, worker, intervalSeconds, log });
  const upkeep = startUpkeep(mending, { database, ledger, intervalSeconds, log });
  const { port, address, family } = app.server.address() as AddressInfo;
  return {
    url: `http://${family === 'IPv6' ? `[${address}]` : address}:${port}`,
    apiKey: key.value,
    apiKeyIsNew: key.made,
    async close() {
      await upkeep.stop();
      await app.close();
      await events.close();
      await queue.close();
    },
  };
}
