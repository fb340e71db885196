import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { Redis } from 'ioredis';
import pino from 'pino';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest';
import {
  HandBack,
  LockLostError,
  openQueueConnection,
  openTrainingQueue,
  type QueueConnection,
  startTrainingWorker,
  type TrainingQueue,
  type TrainingWorkerOptions,
} from '../../src/queue/queue.js';
import { emptyDatabase, query } from '../helpers/postgres.js';
import { firstLine } from '../helpers/postgres-process.js';
import { findRedisServer, startRedis, type TestRedis } from '../helpers/redis.js';

const log = pino({ level: 'silent' });
const redisServer = findRedisServer();
const SOON = { timeout: 20_000, interval: 20 };

function deferred<T>() {
  let resolve!: (value: T) => void;
  const promise = new Promise<T>((settle) => {
    resolve = settle;
  });
  return { promise, resolve };
}

describe.each(['postgres', 'redis'] as const)('the training queue on %s', (kind) => {
  describe.skipIf(kind === 'redis' && redisServer === undefined)('', () => {
    let redis: TestRedis | undefined;
    let connection: QueueConnection;
    let queue: TrainingQueue;
    const open: { close(): Promise<void> }[] = [];

    beforeAll(async () => {
      if (kind === 'redis') redis = await startRedis(redisServer!);
    });
    afterAll(() => redis?.stop());

    beforeEach(async () => {
      if (redis === undefined) {
        connection = openQueueConnection({ connectionString: await emptyDatabase() });
      } else {
        const client = new Redis(redis.url);
        await client.flushall();
        client.disconnect();
        connection = openQueueConnection({ redisUrl: redis.url, connectionString: 'postgresql://unused' });
      }
      expect(connection.kind).toBe(kind);
      queue = await openTrainingQueue(connection, log);
      open.push(queue);
    });
    afterEach(async () => {
      for (const closable of open.splice(0).reverse()) await closable.close();
    });

    async function startWorker(options: Partial<TrainingWorkerOptions> & Pick<TrainingWorkerOptions, 'process'>) {
      const worker = await startTrainingWorker(connection, { concurrency: 1, log, ...options });
      open.push(worker);
      return worker;
    }

    async function isIdle() {
      await vi.waitFor(
        async () => expect(await queue.counts()).toMatchObject({ waiting: 0, active: 0, delayed: 0 }),
        SOON,
      );
    }

    it('processes what is added, and knows what it has', async () => {
      await queue.ping();
      await queue.add('ftjob-a');
      await queue.add('ftjob-b');
      expect(await queue.counts()).toEqual({ waiting: 2, active: 0, delayed: 0, failed: 0 });
      expect([await queue.has('ftjob-a'), await queue.has('ftjob-c')]).toEqual([true, false]);

      const release = deferred<void>();
      const processed: string[] = [];
      await startWorker({
        process: async (jobId) => {
          processed.push(jobId);
          await release.promise;
        },
      });
      await vi.waitFor(() => expect(processed).toEqual(['ftjob-a']), SOON);
      expect(await queue.counts()).toEqual({ waiting: 1, active: 1, delayed: 0, failed: 0 });
      expect(await queue.has('ftjob-a')).toBe(true);
      release.resolve();
      await isIdle();
      expect(processed).toEqual(['ftjob-a', 'ftjob-b']);
      expect(await queue.has('ftjob-a')).toBe(false);
    });

    it('wakes a worker that is waiting', async () => {
      const process = vi.fn(async () => {});
      await startWorker({ process });
      // The worker has found nothing and blocks by now, or it finds the job at once; either must be quick.
      const before = Date.now();
      await queue.add('ftjob-a');
      await vi.waitFor(() => expect(process).toHaveBeenCalledTimes(1), SOON);
      expect(Date.now() - before).toBeLessThan(3_000);
    });

    it('has a job once however often it is added while it waits', async () => {
      await Promise.all([queue.add('ftjob-a'), queue.add('ftjob-a'), queue.add('ftjob-a')]);
      await queue.add('ftjob-a');
      expect((await queue.counts()).waiting).toBe(1);
    });

    it('processes a job again that is added after its end', async () => {
      const process = vi.fn(async () => {});
      await startWorker({ process });
      for (let times = 1; times <= 3; times++) {
        await queue.add('ftjob-a');
        await vi.waitFor(() => expect(process).toHaveBeenCalledTimes(times), SOON);
        await isIdle();
      }
    });

    it('processes a job once more that is added while it is processed', async () => {
      const releases = [deferred<void>(), deferred<void>()];
      const process = vi.fn(() => releases[process.mock.calls.length - 1].promise);
      await startWorker({ process });
      await queue.add('ftjob-a');
      await vi.waitFor(() => expect(process).toHaveBeenCalledTimes(1), SOON);
      await queue.add('ftjob-a');
      await queue.add('ftjob-a');
      releases[0].resolve();
      await vi.waitFor(() => expect(process).toHaveBeenCalledTimes(2), SOON);
      releases[1].resolve();
      await isIdle();
      expect(process).toHaveBeenCalledTimes(2);
    });

    it('takes out a job that waits', async () => {
      await queue.add('ftjob-a');
      await queue.add('ftjob-b');
      await queue.remove('ftjob-a');
      await queue.remove('ftjob-unknown');
      expect(await queue.has('ftjob-a')).toBe(false);
      const processed: string[] = [];
      await startWorker({
        process: async (jobId) => {
          processed.push(jobId);
        },
      });
      await vi.waitFor(() => expect(processed).toEqual(['ftjob-b']), SOON);
    });

    it('leaves a job alone that is being processed when it is to be taken out', async () => {
      const release = deferred<void>();
      const process = vi.fn(() => release.promise);
      await startWorker({ process });
      await queue.add('ftjob-a');
      await vi.waitFor(() => expect(process).toHaveBeenCalledTimes(1), SOON);
      await queue.remove('ftjob-a');
      expect((await queue.counts()).active).toBe(1);
      release.resolve();
      await isIdle();
    });

    it('tries a job again that broke off', async () => {
      const process = vi.fn(async () => {
        if (process.mock.calls.length < 3) throw new Error('the database is away');
      });
      await startWorker({ process });
      await queue.add('ftjob-a');
      await vi.waitFor(async () => expect((await queue.counts()).delayed).toBe(1), SOON);
      expect(await queue.has('ftjob-a')).toBe(true);
      await vi.waitFor(() => expect(process).toHaveBeenCalledTimes(3), SOON);
      await isIdle();
      expect((await queue.counts()).failed).toBe(0);
    });

    it('gives each job to one of two workers, and as many at a time as it was told', async () => {
      const ids = Array.from({ length: 30 }, (_, index) => `ftjob-${index}`);
      const seen: string[] = [];
      const running = [0, 0];
      const most = [0, 0];
      const process = (worker: number) => async (jobId: string) => {
        seen.push(jobId);
        most[worker] = Math.max(most[worker], ++running[worker]);
        await new Promise((resolve) => setTimeout(resolve, 30));
        running[worker]--;
      };
      await startWorker({ concurrency: 3, process: process(0) });
      await startWorker({ concurrency: 1, process: process(1) });
      await Promise.all(ids.map((id) => queue.add(id)));
      await vi.waitFor(() => expect(seen).toHaveLength(ids.length), SOON);
      await isIdle();
      expect([...seen].sort()).toEqual([...ids].sort());
      expect(most).toEqual([3, 1]);
    });

    it('hands a running job back when the worker closes, and another goes on at once', async () => {
      const reasons: unknown[] = [];
      const first = await startWorker({
        process: (_, signal) =>
          new Promise((_, reject) => {
            signal.addEventListener('abort', () => {
              reasons.push(signal.reason);
              reject(new HandBack());
            });
          }),
      });
      await queue.add('ftjob-a');
      await vi.waitFor(async () => expect((await queue.counts()).active).toBe(1), SOON);
      await vi.waitFor(async () => {
        await first.close();
        expect(reasons).toEqual([expect.any(HandBack)]);
      }, SOON);
      expect(await queue.counts()).toMatchObject({ waiting: 1, active: 0, delayed: 0 });

      const process = vi.fn(async () => {});
      await startWorker({ process });
      await vi.waitFor(() => expect(process).toHaveBeenCalledTimes(1), SOON);
      await isIdle();
    });

    it('takes no more jobs once it closes', async () => {
      const process = vi.fn(async () => {});
      const worker = await startWorker({ process });
      const closing = worker.close();
      await queue.add('ftjob-a');
      await closing;
      expect(process).not.toHaveBeenCalled();
      expect((await queue.counts()).waiting).toBe(1);
    });

    it('leaves a job behind that does not stop, for another worker to take', async () => {
      const stubborn = await startWorker({
        lockDurationMs: 1_000,
        stalledIntervalMs: 500,
        process: () => new Promise(() => {}),
      });
      await queue.add('ftjob-a');
      await vi.waitFor(async () => expect((await queue.counts()).active).toBe(1), SOON);
      await stubborn.close(100);
      const process = vi.fn(async () => {});
      await startWorker({ stalledIntervalMs: 500, process });
      await vi.waitFor(() => expect(process).toHaveBeenCalledTimes(1), SOON);
    });

    it('gives the job of a killed worker process to another', async () => {
      const script = fileURLToPath(new URL('../helpers/queue-worker.mjs', import.meta.url));
      const child = spawn(globalThis.process.execPath, [script, JSON.stringify(connection)], {
        stdio: ['ignore', 'pipe', 'inherit'],
      });
      await queue.add('ftjob-a');
      expect(await firstLine(child)).toBe('ftjob-a');
      child.kill('SIGKILL');
      await once(child, 'exit');

      const process = vi.fn(async (_jobId: string) => {});
      await startWorker({ stalledIntervalMs: 500, process });
      await vi.waitFor(() => expect(process.mock.calls.map(([jobId]) => jobId)).toEqual(['ftjob-a']), SOON);
      await isIdle();
    });

    it('tells the processor when the lock is lost, and leaves the job to its new owner', async () => {
      const reason = deferred<unknown>();
      const onLockLost = vi.fn();
      await startWorker({
        lockDurationMs: 500,
        onLockLost,
        process: (_, signal) =>
          new Promise((_, reject) => {
            signal.addEventListener('abort', () => {
              reason.resolve(signal.reason);
              reject(signal.reason);
            });
          }),
      });
      await queue.add('ftjob-a');
      await vi.waitFor(async () => expect((await queue.counts()).active).toBe(1), SOON);
      await stealLock();
      expect(await reason.promise).toBeInstanceOf(LockLostError);
      expect(onLockLost).toHaveBeenCalledWith('ftjob-a');
      expect(await queue.counts()).toMatchObject({ active: 1, delayed: 0, failed: 0 });
    });

    async function stealLock(): Promise<void> {
      if (connection.kind === 'postgres') {
        await query(connection.connectionString, "UPDATE bullmq.job SET lock_token = 'another'");
        return;
      }
      const client = new Redis(connection.url);
      const [key] = await client.keys('*:lock');
      await client.set(key, 'another');
      client.disconnect();
    }

    it('is made by processes that come at the same time', async () => {
      const others = await Promise.all(Array.from({ length: 4 }, () => openTrainingQueue(connection, log)));
      await others[0].add('ftjob-a');
      expect((await others[3].counts()).waiting).toBe(1);
      await Promise.all(others.map((other) => other.close()));
    });

    it('goes on after its store was away', async () => {
      const process = vi.fn(async () => {});
      await startWorker({ process });
      if (redis === undefined) {
        await query(
          (connection as { connectionString: string }).connectionString,
          `SELECT pg_terminate_backend(pid) FROM pg_stat_activity
           WHERE datname = current_database() AND pid <> pg_backend_pid()`,
        );
      } else {
        await redis.restart(async () => {
          await expect(queue.ping()).rejects.toThrow();
        });
      }
      await vi.waitFor(() => queue.add('ftjob-a'), SOON);
      await vi.waitFor(() => expect(process).toHaveBeenCalled(), SOON);
    });
  });
});

describe('opening a queue where nothing listens', () => {
  it.each([
    { redisUrl: 'redis://:hush-hush@127.0.0.1:1', connectionString: 'postgresql://unused' },
    { connectionString: 'postgresql://u:hush-hush@127.0.0.1:1/d' },
  ])('explains itself without credentials', async (options) => {
    const error: Error = await openTrainingQueue(openQueueConnection(options), log).then(
      () => expect.fail('it was opened'),
      (reason) => reason,
    );
    expect(error.message).toMatch(/cannot be opened on (Redis|Postgres) at 127\.0\.0\.1:1.*(REDIS_URL|DATABASE_URL)/);
    expect(error.message).not.toContain('hush-hush');
  });
});
