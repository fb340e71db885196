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
    log,
    process: async (jobId, signal) => {
      const outcome = await runInChildProcess(jobId, {
        signal,
        environment: trainingEnvironment(core, config),
        log,
      });
      if (outcome === 'handed_back') throw new HandBack();
    },
    onGivenUp: (jobId) => failGivenUpJob(core.database, core.ledger, jobId),
  });
  return { close: () => worker.close(STOP_GRACE_MS) };
}

/** The configuration that a training process needs, as it stands here, whatever this process's own environment says. */
function trainingEnvironment(core: Core, config: Config): Record<string, string> {
  return {
    DATABASE_URL: core.connectionString,
    CRAFT_DATA_DIR: config.dataDirectory,
    CRAFT_SECRET_KEY: config.secretKey ?? '',
    CRAFT_COMPUTE: config.compute,
    CRAFT_CHECKPOINT_INTERVAL: String(config.checkpointInterval),
    LOG_LEVEL: config.logLevel,
  };
}
