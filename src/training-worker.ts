import type { Logger } from 'pino';
import type { Config } from './config.js';
import type { Core } from './core.js';
import { failGivenUpJob } from './jobs/give-up.js';
import { runInChildProcess } from './jobs/training-process.js';
import { HandBack, openQueueConnection, startTrainingWorker } from './queue/queue.js';

/** For the provider calls that are in flight; a slower provider's calls are left behind as unknown. */
const STOP_GRACE_MS = 120_000;

/** Takes jobs from the queue and runs each in a process of its own, so that its arithmetic never delays a lock. */
export async function startWorker(core: Core, config: Config, log: Logger): Promise<{ close(): Promise<void> }> {
  const connection = openQueueConnection({ redisUrl: config.redisUrl, connectionString: core.connectionString });
  const worker = await startTrainingWorker(connection, {
    concurrency: config.workerConcurrency,
    lockDurationMs: config.lockSeconds * 1000,
    stalledIntervalMs: config.lockSeconds * 500,
    log,
    process: async (jobId, signal) => {
      const environment = trainingEnvironment(core, config);
      const before = await answeredCalls(core, jobId);
      const outcome = await runInChildProcess(jobId, { signal, environment, log }).catch(async (error: unknown) => {
        // However often its process dies, a job that gets further each time is not given up.
        if ((await answeredCalls(core, jobId)) === before) throw error;
        log.warn({ err: error, jobId }, 'a training process broke down; the job goes on from where it was');
        return 'handed_back' as const;
      });
      if (outcome === 'handed_back') throw new HandBack();
    },
    onGivenUp: (jobId) => failGivenUpJob(core.database, core.ledger, jobId),
  });
  return { close: () => worker.close(STOP_GRACE_MS) };
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
    CRAFT_ALLOWED_NETWORKS: core.providers.addressPolicy.toString(),
    CRAFT_CHECKPOINT_INTERVAL: String(config.checkpointInterval),
    LOG_LEVEL: config.logLevel,
  };
}
