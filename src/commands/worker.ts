import type { Config } from '../config.js';
import { openCore } from '../core.js';
import { createLogger } from '../logger.js';
import { startWorker } from '../training-worker.js';
import { serve } from './shutdown.js';

/** One worker. Run as many as there are machines; each takes CRAFT_WORKER_CONCURRENCY jobs at a time. */
export async function worker(config: Config): Promise<void> {
  const log = createLogger(config.logLevel, 'worker');
  await serve(log, async (closers) => {
    const core = await openCore(config, log);
    closers.unshift(() => core.close());
    const running = await startWorker(core, config, log);
    closers.unshift(() => running.close());
    process.stdout.write(`craft-server worker ${core.worker} takes jobs\n`);
  });
}
