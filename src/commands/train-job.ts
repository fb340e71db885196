import { setPriority } from 'node:os';
import type { Config } from '../config.js';
import { openCore } from '../core.js';
import { runTrainingJob } from '../jobs/runner.js';
import { HANDED_BACK_STATUS } from '../jobs/training-process.js';
import { createLogger } from '../logger.js';

/** Longer than the longest time-out of a provider, whose calls are awaited. */
const STOP_MS = 660_000;

/** One training job, in the process that a worker made for it. The parent says "stop", or hangs up. */
export async function trainJob(config: Config, jobId: string): Promise<void> {
  const log = createLogger(config.logLevel, 'train');
  const stopping = new AbortController();
  const stop = () => {
    stopping.abort();
    setTimeout(() => process.exit(HANDED_BACK_STATUS), STOP_MS).unref();
  };
  process.on('message', stop);
  process.on('disconnect', stop);
  // Ctrl-C reaches the whole terminal group; the worker decides when this process stops.
  process.on('SIGINT', () => {});
  process.on('SIGTERM', stop);
  lowerPriority();
  const core = await openCore(config, log);
  try {
    const outcome = await runTrainingJob(jobId, {
      ...core,
      compute: config.compute,
      checkpointInterval: config.checkpointInterval,
      log,
      signal: stopping.signal,
    });
    if (outcome === 'handed_back') process.exitCode = HANDED_BACK_STATUS;
  } finally {
    await core.close();
  }
  if (process.connected) process.disconnect();
}

/** Training gives way to the API and to the queue's lock renewal on the same machine. */
function lowerPriority(): void {
  try {
    setPriority(5);
  } catch {
    // Not permitted here; training runs at the normal priority.
  }
}
