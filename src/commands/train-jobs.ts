import type { Config } from '../config.js';
import { openCore } from '../core.js';
import { HostLoad } from '../jobs/host-load.js';
import { runTrainingJob } from '../jobs/runner.js';
import { TrainingThreads } from '../jobs/threads/training-threads.js';
import type { HostReply, HostRequest } from '../jobs/training-host.js';
import { createLogger } from '../logger.js';

/** Longer than the longest time-out of a provider, whose calls are awaited. */
const STOP_MS = 660_000;

/**
 * Many training jobs, in the process that a worker made for them: what waits for providers and for Postgres in this thread, the
 * arithmetic in others. The parent says which job to run and which to stop; when it hangs up, all of them stop.
 */
export async function trainJobs(config: Config): Promise<void> {
  const log = createLogger(config.logLevel, 'train');
  const stopping = new AbortController();
  const running = new Map<number, AbortController>();
  const requests: HostRequest[] = [];
  let take = (request: HostRequest) => void requests.push(request);
  // Before anything is opened: requests come from the beginning.
  process.on('message', (request: HostRequest) => take(request));
  const stopped = new Promise<void>((resolve) => {
    stopping.signal.addEventListener('abort', () => {
      reply({ kind: 'stopping' });
      for (const run of running.values()) run.abort();
      setTimeout(() => process.exit(1), STOP_MS).unref();
      resolve();
    });
  });
  const stop = () => stopping.abort();
  process.on('disconnect', stop);
  // The parent may have gone while this program was being loaded.
  if (!process.connected) stop();
  // Ctrl-C reaches the whole terminal group; the worker decides when this process stops.
  process.on('SIGINT', () => {});
  process.on('SIGTERM', stop);

  const core = await openCore(config, log);
  const threads = new TrainingThreads(config.trainingThreads);
  const load = new HostLoad(log);
  const ends = new Set<Promise<void>>();

  async function run(number: number, jobId: string): Promise<void> {
    const controller = new AbortController();
    running.set(number, controller);
    if (stopping.signal.aborted) controller.abort();
    const finished = load.begin();
    try {
      const outcome = await runTrainingJob(jobId, {
        ...core,
        threads,
        compute: config.compute,
        checkpointInterval: config.checkpointInterval,
        log,
        signal: controller.signal,
      });
      reply({ kind: 'ended', run: number, outcome });
    } catch (error) {
      log.error({ err: error, jobId }, 'a training job broke off');
      reply({ kind: 'broke', run: number, reason: error instanceof Error ? error.message : String(error) });
    } finally {
      finished();
      running.delete(number);
    }
  }

  take = (request) => {
    if (request.kind === 'stop') running.get(request.run)?.abort();
    else {
      const end = run(request.run, request.jobId).finally(() => ends.delete(end));
      ends.add(end);
    }
  };
  for (const request of requests.splice(0)) take(request);
  // The backend that jobs will need, loaded before there is one; where it cannot be had, the job says so.
  threads.select(config.compute).catch(() => {});
  try {
    await stopped;
    while (ends.size > 0) await Promise.all(ends);
  } finally {
    load.stop();
    await threads.close();
    await core.close();
  }
  if (process.connected) process.disconnect();
}

function reply(message: HostReply): void {
  if (process.connected) process.send?.(message, undefined, undefined, () => {});
}
