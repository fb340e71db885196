import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { ApiClient } from './api-client.js';
import { until } from './patience.js';
import { freePort } from './ports.js';
import { PostgresServer } from './postgres.js';
import { ProviderControl } from './provider-control.js';
import { findRedisServer, RedisServer } from './redis.js';
import type { Link, QueueKind } from './schedule.js';
import { SupervisedProcess } from './supervised-process.js';
import { TcpProxy } from './tcp-proxy.js';

/** The repository: one folder above this file, or two above what it is compiled to. */
export const REPOSITORY = [new URL('../', import.meta.url), new URL('../../', import.meta.url)].find((folder) =>
  existsSync(new URL('package.json', folder)),
)!;

const API_KEY = 'ck-chaos-0123456789';
const CHECKPOINT_INTERVAL = 2;
export const LOCK_SECONDS = 3;

export interface ClusterOptions {
  queue: QueueKind;
  /** Whether the provider honours idempotency keys. */
  idempotency: boolean;
}

/**
 * The whole service as processes on this machine: Postgres, Redis where the queue is there, the reference provider, the
 * API and two workers. The service reaches Postgres, Redis and the provider through proxies.
 */
export class Cluster {
  readonly workers: SupervisedProcess[] = [];
  readonly links = {} as Record<Link, TcpProxy>;
  api!: SupervisedProcess;
  provider!: SupervisedProcess;
  postgres!: PostgresServer;
  redis: RedisServer | undefined;
  client!: ApiClient;
  control!: ProviderControl;
  /** Past the proxy. */
  databaseUrl!: string;
  /** As the service sees it. */
  providerUrl!: string;
  private readonly onExit = () => this.killAll();

  private constructor(
    readonly folder: string,
    readonly options: ClusterOptions,
  ) {}

  /** Starts everything and waits until the API answers. */
  static async start(options: ClusterOptions): Promise<Cluster> {
    const cluster = new Cluster(await mkdtemp(join(tmpdir(), 'craft-chaos-')), options);
    process.once('exit', cluster.onExit);
    try {
      await cluster.startAll();
    } catch (error) {
      cluster.killAll();
      throw error;
    }
    return cluster;
  }

  /** Ends everything. Its logs stay when `keepFiles` says so. */
  async stop(keepFiles: boolean): Promise<void> {
    process.removeListener('exit', this.onExit);
    this.killAll();
    await this.postgres.kill().catch(() => undefined);
    if (!keepFiles) await rm(this.folder, { recursive: true, force: true, maxRetries: 5 });
  }

  /** Waits until every process runs and takes requests. */
  async isUp(): Promise<void> {
    await until('the provider is ready', () => this.control.isReady());
    await this.client.get('/readyz');
    await until('all workers run', async () => this.workers.every(({ pid }) => pid !== undefined));
  }

  get processes(): SupervisedProcess[] {
    return [this.api, this.provider, ...this.workers];
  }

  private async startAll(): Promise<void> {
    const dataDirectory = join(this.folder, 'data');
    await mkdir(dataDirectory);
    const [apiPort, providerPort, postgresPort] = [await freePort(), await freePort(), await freePort()];
    this.postgres = await PostgresServer.create(join(this.folder, 'postgres'), postgresPort);
    this.databaseUrl = this.postgres.connectionString(postgresPort);
    this.links.postgres = await openProxy(postgresPort);
    this.links.provider = await openProxy(providerPort);
    await this.startRedis();
    this.control = new ProviderControl(`http://127.0.0.1:${providerPort}`);
    this.providerUrl = `http://127.0.0.1:${this.links.provider.port}`;
    this.client = new ApiClient(`http://127.0.0.1:${apiPort}`, API_KEY);

    const environment: NodeJS.ProcessEnv = {
      ...process.env,
      HOST: '127.0.0.1',
      PORT: String(apiPort),
      DATABASE_URL: this.postgres.connectionString(this.links.postgres.port),
      REDIS_URL: this.redis === undefined ? '' : `redis://127.0.0.1:${this.links.redis.port}`,
      CRAFT_DATA_DIR: dataDirectory,
      CRAFT_API_KEY: API_KEY,
      CRAFT_SECRET_KEY: 'c'.repeat(64),
      // The backend that loads fastest.
      CRAFT_COMPUTE: 'cpu',
      CRAFT_WORKER_CONCURRENCY: '2',
      CRAFT_CHECKPOINT_INTERVAL: String(CHECKPOINT_INTERVAL),
      CRAFT_LOCK_SECONDS: String(LOCK_SECONDS),
      CRAFT_UPKEEP_SECONDS: '1',
      CRAFT_RATE_LIMIT_PER_MINUTE: '1000000',
      CRAFT_PROVIDER_URL: '',
      // Jobs call the provider through a proxy of ours.
      CRAFT_ALLOWED_NETWORKS: 'loopback',
      // Any key is taken, and counted apart from the others.
      CRAFT_PROVIDER_KEY: '',
      CRAFT_PROVIDER_PORT: String(providerPort),
      CRAFT_PROVIDER_STATE: join(this.folder, 'provider-state'),
      CRAFT_PROVIDER_IDEMPOTENCY: String(this.options.idempotency),
      LOG_LEVEL: 'warn',
    };
    const program = fileURLToPath(new URL('dist/main.js', REPOSITORY));
    const supervise = (name: string, command: string) => {
      const supervised = new SupervisedProcess(name, program, command, environment, join(this.folder, `${name}.log`));
      supervised.start();
      return supervised;
    };
    this.provider = supervise('provider', 'provider');
    this.api = supervise('api', 'api');
    this.workers.push(supervise('worker-0', 'worker'), supervise('worker-1', 'worker'));
    await this.isUp();
  }

  private async startRedis(): Promise<void> {
    if (this.options.queue !== 'redis') return;
    const program = findRedisServer();
    if (program === undefined)
      throw new Error('There is no redis-server on the PATH. Install it, or use --queue postgres.');
    const port = await freePort();
    this.redis = new RedisServer(program, this.folder, port);
    await this.redis.start();
    this.links.redis = await openProxy(port);
  }

  private killAll(): void {
    for (const link of Object.values(this.links)) void link.close();
    for (const supervised of this.processes) supervised?.stop();
    this.redis?.abandon();
    this.postgres?.abandon();
  }
}

async function openProxy(target: number): Promise<TcpProxy> {
  const proxy = new TcpProxy(await freePort(), target);
  await proxy.open();
  return proxy;
}
