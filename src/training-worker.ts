import type { Logger } from 'pino';
import type { Config } from './config.js';
import type { Core } from './core.js';
import { failGivenUpJob } from './jobs/give-up.js';
import type { RunOutcome } from './jobs/runner.js';
import { HostLostError, TrainingHost } from './jobs/training-host.js';
import { HandBack, openQueueConnection, startTrainingWorker } from './queue/queue.js';

/** For the provider calls that are in flight; a slower provider's calls are left behind as unknown. */
const STOP_GRACE_MS = 120_000;
/** Jobs at most that each run in a process of their own, because they may be what the shared one died of. */
const MOST_APART = 4;

export interface RunningWorker {
  /** The jobs that it works on. */
  jobs(): string[];
  close(): Promise<void>;
}

/** Takes jobs from the queue and has them run in one other process, so that they never delay the renewal of locks. */
export async function startWorker(core: Core, config: Config, log: Logger): Promise<RunningWorker> {
  const { connectionString, installation } = core;
  const connection = openQueueConnection({ redisUrl: config.redisUrl, connectionString, installation });
  const environment = trainingEnvironment(core, config);
  const host = new TrainingHost(environment);
  host.warm();
  const running: string[] = [];
  /** Jobs that were in a process that died, and that had not got anywhere in it. */
  const suspects = new Set<string>();
  let apart = 0;

  async function runJob(jobId: string, signal: AbortSignal): Promise<RunOutcome> {
    if (!suspects.has(jobId) || apart >= MOST_APART) return host.run(jobId, signal);
    const own = new TrainingHost(environment);
    apart++;
    try {
      return await own.run(jobId, signal);
    } finally {
      apart--;
      await own.close();
    }
  }

  const worker = await startTrainingWorker(connection, {
    concurrency: config.workerConcurrency,
    lockDurationMs: config.lockSeconds * 1000,
    stalledIntervalMs: config.lockSeconds * 500,
    log,
    process: async (jobId, signal) => {
      running.push(jobId);
      try {
        const before = await answeredCalls(core, jobId);
        const outcome = await runJob(jobId, signal).catch(async (error: unknown) => {
          // However often its process dies, a job that gets further each time is not given up.
          if ((await answeredCalls(core, jobId)) === before) {
            if (error instanceof HostLostError) suspects.add(jobId);
            throw error;
          }
          log.warn({ err: error, jobId }, 'a training process broke down; the job goes on from where it was');
          return 'handed_back' as const;
        });
        if (outcome === 'handed_back') throw new HandBack();
        suspects.delete(jobId);
      } finally {
        running.splice(running.indexOf(jobId), 1);
      }
    },
    onGivenUp: async (jobId) => {
      suspects.delete(jobId);
      await failGivenUpJob(core.database, core.ledger, jobId);
    },
  });
  return {
    jobs: () => [...running],
    async close() {
      await worker.close(STOP_GRACE_MS);
      await host.close();
    },
  };
}

function answeredCalls({ database }: Core, jobId: string): Promise<number> {
  return database.reservation.count({ where: { accountId: jobId, state: 'settled' } });
}

/** The configuration that a training process needs, as it stands here, whatever this process's own environment says. */
function trainingEnvironment(core: Core, config: Config): Record<string, string> {
  return {
    DATABASE_URL: core.connectionString,
    CRAFT_DATA_DIR: config.dataDirectory,
    CRAFT_SECRET_KEY: config.secretKey ?? '',
    CRAFT_COMPUTE: config.compute,
    CRAFT_TRAINING_THREADS: String(config.trainingThreads),
    CRAFT_ALLOWED_NETWORKS: core.providers.addressPolicy.toString(),
    CRAFT_CHECKPOINT_INTERVAL: String(config.checkpointInterval),
    LOG_LEVEL: config.logLevel,
  };
}
