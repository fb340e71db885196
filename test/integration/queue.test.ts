import pino from 'pino';
import { expect, it, vi } from 'vitest';
import { withSchema } from '../../src/db/connection-string.js';
import { openQueueConnection, openTrainingQueue } from '../../src/queue/queue.js';
import { emptyDatabase, query } from '../helpers/postgres.js';
import { deferred, describeQueue, SOON } from '../helpers/queue.js';

describeQueue('the training queue', (context) => {
  it('processes what is added, and knows what it has', async () => {
    await context.queue.ping();
    await context.queue.add('ftjob-a');
    await context.queue.add('ftjob-b');
    expect(await context.queue.counts()).toEqual({ waiting: 2, active: 0, delayed: 0, failed: 0 });
    expect([await context.queue.has('ftjob-a'), await context.queue.has('ftjob-c')]).toEqual([true, false]);

    const release = deferred<void>();
    const processed: string[] = [];
    await context.startWorker({
      process: async (jobId) => {
        processed.push(jobId);
        await release.promise;
      },
    });
    await vi.waitFor(() => expect(processed).toEqual(['ftjob-a']), SOON);
    expect(await context.queue.counts()).toEqual({ waiting: 1, active: 1, delayed: 0, failed: 0 });
    expect(await context.queue.has('ftjob-a')).toBe(true);
    release.resolve();
    await context.isIdle();
    expect(processed).toEqual(['ftjob-a', 'ftjob-b']);
    expect(await context.queue.has('ftjob-a')).toBe(false);
  });

  it('wakes a worker that is waiting', async () => {
    const process = vi.fn(async () => {});
    await context.startWorker({ process });
    // The worker has found nothing and blocks by now, or it finds the job at once; either is quick on a machine that is.
    const took: number[] = [];
    for (let times = 1; times <= 3; times++) {
      const before = Date.now();
      await context.queue.add('ftjob-a');
      await vi.waitFor(() => expect(process).toHaveBeenCalledTimes(times), SOON);
      took.push(Date.now() - before);
      await context.isIdle();
    }
    expect(Math.min(...took)).toBeLessThan(3_000);
  });

  it('has a job once however often it is added while it waits', async () => {
    await Promise.all([context.queue.add('ftjob-a'), context.queue.add('ftjob-a'), context.queue.add('ftjob-a')]);
    await context.queue.add('ftjob-a');
    expect((await context.queue.counts()).waiting).toBe(1);
  });

  it('processes a job again that is added after its end', async () => {
    const process = vi.fn(async () => {});
    await context.startWorker({ process });
    for (let times = 1; times <= 3; times++) {
      await context.queue.add('ftjob-a');
      await vi.waitFor(() => expect(process).toHaveBeenCalledTimes(times), SOON);
      await context.isIdle();
    }
  });

  it('processes a job once more that is added while it is processed', async () => {
    const releases = [deferred<void>(), deferred<void>()];
    const process = vi.fn(() => releases[process.mock.calls.length - 1].promise);
    await context.startWorker({ process });
    await context.queue.add('ftjob-a');
    await vi.waitFor(() => expect(process).toHaveBeenCalledTimes(1), SOON);
    await context.queue.add('ftjob-a');
    await context.queue.add('ftjob-a');
    releases[0].resolve();
    await vi.waitFor(() => expect(process).toHaveBeenCalledTimes(2), SOON);
    releases[1].resolve();
    await context.isIdle();
    expect(process).toHaveBeenCalledTimes(2);
  });

  it('takes out a job that waits', async () => {
    await context.queue.add('ftjob-a');
    await context.queue.add('ftjob-b');
    await context.queue.remove('ftjob-a');
    await context.queue.remove('ftjob-unknown');
    expect(await context.queue.has('ftjob-a')).toBe(false);
    const processed: string[] = [];
    await context.startWorker({
      process: async (jobId) => {
        processed.push(jobId);
      },
    });
    await vi.waitFor(() => expect(processed).toEqual(['ftjob-b']), SOON);
  });

  it('leaves a job alone that is being processed when it is to be taken out', async () => {
    const release = deferred<void>();
    const process = vi.fn(() => release.promise);
    await context.startWorker({ process });
    await context.queue.add('ftjob-a');
    await vi.waitFor(() => expect(process).toHaveBeenCalledTimes(1), SOON);
    await context.queue.remove('ftjob-a');
    expect((await context.queue.counts()).active).toBe(1);
    release.resolve();
    await context.isIdle();
  });

  it('tries a job again that broke off', async () => {
    const process = vi.fn(async () => {
      if (process.mock.calls.length < 3) throw new Error('the database is away');
    });
    await context.startWorker({ process });
    await context.queue.add('ftjob-a');
    await vi.waitFor(async () => expect((await context.queue.counts()).delayed).toBe(1), SOON);
    expect(await context.queue.has('ftjob-a')).toBe(true);
    await vi.waitFor(() => expect(process).toHaveBeenCalledTimes(3), SOON);
    await context.isIdle();
    expect((await context.queue.counts()).failed).toBe(0);
  });

  it('gives each job to one of two workers, and as many at a time as it was told', async () => {
    const ids = Array.from({ length: 30 }, (_, index) => `ftjob-${index}`);
    const seen: string[] = [];
    const running = [0, 0];
    const most = [0, 0];
    // Until both have as many as they may, nobody ends.
    const full = deferred<void>();
    const process = (worker: number) => async (jobId: string) => {
      seen.push(jobId);
      most[worker] = Math.max(most[worker], ++running[worker]);
      if (running[0] >= 3 && running[1] >= 1) full.resolve();
      await full.promise;
      await new Promise((resolve) => setTimeout(resolve, 30));
      running[worker]--;
    };
    await context.startWorker({ concurrency: 3, process: process(0) });
    await context.startWorker({ concurrency: 1, process: process(1) });
    await Promise.all(ids.map((id) => context.queue.add(id)));
    await vi.waitFor(() => expect(seen).toHaveLength(ids.length), SOON);
    await context.isIdle();
    expect([...seen].sort()).toEqual([...ids].sort());
    expect(most).toEqual([3, 1]);
  });
});

it('is where it always was for those who name the schema public, as others do who leave it out', async () => {
  const connectionString = await emptyDatabase();
  const named = { connectionString: withSchema(connectionString, 'public'), installation: 'test' };
  const log = pino({ level: 'silent' });
  const queue = await openTrainingQueue(openQueueConnection(named), log);
  await queue.add('ftjob-a');
  await queue.close();
  const schemas = await query(connectionString, `SELECT nspname FROM pg_namespace WHERE nspname LIKE '%bullmq'`);
  expect(schemas).toEqual([{ nspname: 'bullmq' }]);
  const other = await openTrainingQueue(openQueueConnection({ connectionString, installation: 'test' }), log);
  expect(await other.has('ftjob-a')).toBe(true);
  await other.close();
});
