import { Redis } from 'ioredis';
import pino from 'pino';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, vi } from 'vitest';
import {
  openQueueConnection,
  openTrainingQueue,
  type QueueConnection,
  startTrainingWorker,
  type TrainingQueue,
  type TrainingWorker,
  type TrainingWorkerOptions,
} from '../../src/queue/queue.js';
import { emptyDatabase } from './postgres.js';
import { findRedisServer, startRedis, type TestRedis } from './redis.js';

/** How long a test waits for what is to happen soon. */
export const SOON = { timeout: 20_000, interval: 20 };

const log = pino({ level: 'silent' });
const redisServer = findRedisServer();

/** What a test of the queue works with; each test starts with an empty queue. */
export interface QueueContext {
  connection: QueueConnection;
  queue: TrainingQueue;
  /** Undefined where the queue is on Postgres. */
  redis?: TestRedis;
  startWorker(
    options: Partial<TrainingWorkerOptions> & Pick<TrainingWorkerOptions, 'process'>,
  ): Promise<TrainingWorker>;
  /** Waits until nothing waits, runs or is to be tried again. */
  isIdle(): Promise<void>;
}

/** Describes the queue on Postgres and, where there is a redis-server, on Redis. */
export function describeQueue(title: string, tests: (context: QueueContext) => void): void {
  describe.each(['postgres', 'redis'] as const)(`${title} on %s`, (kind) => {
    describe.skipIf(kind === 'redis' && redisServer === undefined)('', () => {
      const open: { close(): Promise<void> }[] = [];
      const context = {
        async startWorker(options) {
          const worker = await startTrainingWorker(context.connection, { concurrency: 1, log, ...options });
          open.push(worker);
          return worker;
        },
        async isIdle() {
          await vi.waitFor(
            async () => expect(await context.queue.counts()).toMatchObject({ waiting: 0, active: 0, delayed: 0 }),
            SOON,
          );
        },
      } as QueueContext;

      beforeAll(async () => {
        if (kind === 'redis') context.redis = await startRedis(redisServer!);
      });
      afterAll(() => context.redis?.stop());
      beforeEach(async () => {
        context.connection = await emptyStore(context.redis);
        expect(context.connection.kind).toBe(kind);
        context.queue = await openTrainingQueue(context.connection, log);
        open.push(context.queue);
      });
      afterEach(async () => {
        for (const closable of open.splice(0).reverse()) await closable.close();
      });

      tests(context);
    });
  });
}

/** A promise that a test settles itself. */
export function deferred<T>() {
  let resolve!: (value: T) => void;
  const promise = new Promise<T>((settle) => {
    resolve = settle;
  });
  return { promise, resolve };
}

async function emptyStore(redis: TestRedis | undefined): Promise<QueueConnection> {
  if (redis === undefined)
    return openQueueConnection({ connectionString: await emptyDatabase(), installation: 'test' });
  const client = new Redis(redis.url);
  await client.flushall();
  client.disconnect();
  return openQueueConnection({ redisUrl: redis.url, connectionString: 'postgresql://unused', installation: 'test' });
}
