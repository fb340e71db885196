import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { Redis } from 'ioredis';
import pino, { type Logger } from 'pino';
import { afterAll, describe, expect, it, vi } from 'vitest';
import { createLogger } from '../../src/logger.js';
import { HandBack, LockLostError, openQueueConnection, openTrainingQueue } from '../../src/queue/queue.js';
import { query } from '../helpers/postgres.js';
import { firstLine } from '../helpers/postgres-process.js';
import { deferred, describeQueue, SOON } from '../helpers/queue.js';
import { findRedisServer, startRedis } from '../helpers/redis.js';

const log = pino({ level: 'silent' });

describeQueue('the training queue when things end early,', (context) => {
  it('hands a running job back when the worker closes, and another goes on at once', async () => {
    const reasons: unknown[] = [];
    const started = deferred<void>();
    const first = await context.startWorker({
      process: (_, signal) =>
        new Promise((_, reject) => {
          signal.addEventListener('abort', () => {
            reasons.push(signal.reason);
            reject(new HandBack());
          });
          started.resolve();
        }),
    });
    await context.queue.add('ftjob-a');
    await started.promise;
    await first.close();
    expect(reasons).toEqual([expect.any(HandBack)]);
    expect(await context.queue.counts()).toMatchObject({ waiting: 1, active: 0, delayed: 0 });

    const process = vi.fn(async () => {});
    await context.startWorker({ process });
    await vi.waitFor(() => expect(process).toHaveBeenCalledTimes(1), SOON);
    await context.isIdle();
  });

  it('takes no more jobs once it closes', async () => {
    const process = vi.fn(async () => {});
    const worker = await context.startWorker({ process });
    const closing = worker.close();
    await context.queue.add('ftjob-a');
    await closing;
    expect(process).not.toHaveBeenCalled();
    expect((await context.queue.counts()).waiting).toBe(1);
  });

  it('leaves a job behind that does not stop, for another worker to take', async () => {
    const stubborn = await context.startWorker({
      lockDurationMs: 1_000,
      stalledIntervalMs: 500,
      process: () => new Promise(() => {}),
    });
    await context.queue.add('ftjob-a');
    await vi.waitFor(async () => expect((await context.queue.counts()).active).toBe(1), SOON);
    await stubborn.close(100);
    const process = vi.fn(async () => {});
    await context.startWorker({ stalledIntervalMs: 500, process });
    await vi.waitFor(() => expect(process).toHaveBeenCalledTimes(1), SOON);
  });

  it('gives the job of a killed worker process to another', async () => {
    const script = fileURLToPath(new URL('../helpers/queue-worker.mjs', import.meta.url));
    const child = spawn(globalThis.process.execPath, [script, JSON.stringify(context.connection)], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    await context.queue.add('ftjob-a');
    expect(await firstLine(child)).toBe('ftjob-a');
    child.kill('SIGKILL');
    await once(child, 'exit');

    const process = vi.fn(async (_jobId: string) => {});
    await context.startWorker({ stalledIntervalMs: 500, process });
    await vi.waitFor(() => expect(process.mock.calls.map(([jobId]) => jobId)).toEqual(['ftjob-a']), SOON);
    await context.isIdle();
  });

  it('tells the processor when the lock is lost, and leaves the job to its new owner', async () => {
    const reason = deferred<unknown>();
    const started = deferred<void>();
    const onLockLost = vi.fn();
    await context.startWorker({
      lockDurationMs: 4_000,
      onLockLost,
      process: (_, signal) =>
        new Promise((_, reject) => {
          signal.addEventListener('abort', () => {
            reason.resolve(signal.reason);
            reject(signal.reason);
          });
          started.resolve();
        }),
    });
    await context.queue.add('ftjob-a');
    await started.promise;
    await stealLock();
    expect(await reason.promise).toBeInstanceOf(LockLostError);
    expect(onLockLost).toHaveBeenCalledWith('ftjob-a');
    expect(await context.queue.counts()).toMatchObject({ active: 1, delayed: 0, failed: 0 });
  });

  async function stealLock(): Promise<void> {
    if (context.connection.kind === 'postgres') {
      await query(context.connection.connectionString, "UPDATE bullmq.job SET lock_token = 'another'");
      return;
    }
    const client = new Redis(context.connection.url);
    const [key] = await client.keys('*:lock');
    await client.set(key, 'another');
    client.disconnect();
  }

  it('is made by processes that come at the same time', async () => {
    const others = await Promise.all(Array.from({ length: 4 }, () => openTrainingQueue(context.connection, log)));
    await others[0].add('ftjob-a');
    expect((await others[3].counts()).waiting).toBe(1);
    await Promise.all(others.map((other) => other.close()));
  });

  it('goes on after its store was away', async () => {
    const process = vi.fn(async () => {});
    await context.startWorker({ process });
    if (context.redis === undefined) {
      await query(
        (context.connection as { connectionString: string }).connectionString,
        `SELECT pg_terminate_backend(pid) FROM pg_stat_activity
         WHERE datname = current_database() AND pid <> pg_backend_pid()`,
      );
    } else {
      await context.redis.restart(async () => {
        await expect(context.queue.ping()).rejects.toThrow();
      });
    }
    await vi.waitFor(() => context.queue.add('ftjob-a'), SOON);
    await vi.waitFor(() => expect(process).toHaveBeenCalled(), SOON);
  });
});

describe('opening a queue where nothing listens', () => {
  it.each([
    { redisUrl: 'redis://:hush-hush@127.0.0.1:1', connectionString: 'postgresql://unused' },
    { connectionString: 'postgresql://u:hush-hush@127.0.0.1:1/d' },
  ])('explains itself without credentials', async (options) => {
    const error: Error = await openTrainingQueue(openQueueConnection({ ...options, installation: 'test' }), log).then(
      () => expect.fail('it was opened'),
      (reason) => reason,
    );
    expect(error.message).toMatch(/cannot be opened on (Redis|Postgres) at 127\.0\.0\.1:1.*(REDIS_URL|DATABASE_URL)/);
    expect(error.message).not.toContain('hush-hush');
  });
});

describe.skipIf(findRedisServer() === undefined)('Redis', async () => {
  const server = findRedisServer();
  const redis = server === undefined ? undefined : await startRedis(server);
  afterAll(() => redis?.stop());

  const openAt = (change: (url: URL) => void, installation = 'one', to: Logger = log) => {
    const url = new URL(redis!.url);
    change(url);
    const connection = openQueueConnection({
      redisUrl: url.href,
      connectionString: 'postgresql://unused',
      installation,
    });
    return openTrainingQueue(connection, to);
  };

  it('holds the queue of one installation in each of its databases', async () => {
    for (let i = 0; i < 2; i++) await (await openAt(() => {})).close();
    await expect(openAt(() => {}, 'another')).rejects.toThrow(/queue of another craft-server.*redis:\/\/host:6379\/1/);
    const second = await openAt((url) => {
      url.pathname = '/1';
    }, 'another');
    await second.close();
  });

  it('is refused at once where it has no database of that number, rather than used with another one', async () => {
    const change = (url: URL) => {
      url.pathname = '/99';
    };
    await expect(openAt(change)).rejects.toThrow(/no database of the number at the end of REDIS_URL/);
  });

  it('keeps a password that it refuses out of errors and logs', async () => {
    const lines: string[] = [];
    const own = createLogger('trace', 'test', { write: (line: string) => void lines.push(line) });
    const change = (url: URL) => {
      [url.username, url.password] = ['somebody', 'hush-hush'];
    };
    const error: Error = await openAt(change, 'one', own).then(
      () => expect.fail('it was opened'),
      (reason) => reason,
    );
    expect(error.message).toMatch(/refuses the user name or password.*REDIS_URL/);
    expect(lines.join('')).toMatch(/WRONGPASS/);
    expect(lines.join('') + error.message).not.toContain('hush-hush');
  });
});
