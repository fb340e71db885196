import { startApiServer } from '../api-server.js';
import type { Config } from '../config.js';
import { openCore } from '../core.js';
import { registerEmbeddedProvider, startEmbeddedProvider } from '../embedded-provider.js';
import { createLogger } from '../logger.js';
import { startWorker } from '../training-worker.js';
import { announceApi } from './announce.js';
import { serve } from './shutdown.js';

/** What `start` tells a parent process once it takes requests. */
export interface StartedMessage {
  url: string;
  apiKey: string;
  provider: { url: string; key: string } | null;
}

/** API, one worker and the embedded provider, on one machine. */
export async function start(config: Config): Promise<void> {
  const log = createLogger(config.logLevel, 'craft-server');
  await serve(log, async (closers) => {
    // It loads its model while Postgres starts.
    const starting = config.embeddedProvider ? startEmbeddedProvider(config, log) : Promise.resolve(null);
    closers.unshift(async () => (await starting.catch(() => null))?.close());
    const core = await openCore(config, log);
    closers.unshift(() => core.close());
    const provider = await starting;
    if (provider) await registerEmbeddedProvider(core, provider.url, provider.key);
    const api = await startApiServer(core, config, log);
    closers.unshift(() => api.close());
    const worker = await startWorker(core, config, log);
    closers.unshift(() => worker.close());
    announceApi(api, config);
    const message: StartedMessage = {
      url: api.url,
      apiKey: api.apiKey,
      provider: provider && { url: provider.url, key: provider.key },
    };
    process.send?.(message);
  });
}
