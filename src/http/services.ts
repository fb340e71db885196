import type { ApiKeys } from '../access/api-keys.js';
import type { AdapterStore } from '../adapters/adapter-store.js';
import type { Predictor } from '../adapters/predictor.js';
import type { ProviderTest, TestQuery } from '../adapters/provider-test.js';
import type { RepeatableRequests } from '../adapters/repeatable-requests.js';
import type { DatasetStore } from '../datasets/dataset-store.js';
import type { EventFeed } from '../jobs/event-feed.js';
import type { JobControl } from '../jobs/job-control.js';
import type { JobPlanner } from '../jobs/job-planner.js';
import type { JobQueries } from '../jobs/job-queries.js';
import type { JobService } from '../jobs/job-service.js';
import type { Ledger } from '../ledger/ledger.js';
import type { ProviderStore } from '../providers/provider-store.js';

/** What the routes call. Wired together in src/api-server.ts. */
export interface Services {
  apiKeys: ApiKeys;
  datasets: DatasetStore;
  providers: ProviderStore;
  planner: JobPlanner;
  jobs: JobService;
  jobControl: JobControl;
  jobQueries: JobQueries;
  events: EventFeed;
  adapters: AdapterStore;
  predictor: Predictor;
  /** Predictions that come with an Idempotency-Key. */
  repeatable: RepeatableRequests;
  /** One counted query to a provider, and what came of it. */
  testQuery(providerId: string, query: TestQuery): Promise<ProviderTest>;
  ledger: Ledger;
  /** Throws when the service cannot do its work, saying which part is missing. */
  checkReady(): Promise<void>;
  /** Figures for /metrics that are read when it is scraped. */
  gauges(): Promise<{ name: string; help: string; labels: Record<string, string>; value: number }[]>;
}
