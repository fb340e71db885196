import { startApiServer } from '../api-server.js';
import type { Config } from '../config.js';
import { openCore } from '../core.js';
import { registerEmbeddedProvider } from '../embedded-provider.js';
import { createLogger } from '../logger.js';
import { announceApi } from './announce.js';
import { serve } from './shutdown.js';

/** The HTTP API alone. With CRAFT_PROVIDER_URL it also registers the reference provider that runs there. */
export async function api(config: Config): Promise<void> {
  const log = createLogger(config.logLevel, 'api');
  await serve(log, async (closers) => {
    const core = await openCore(config, log);
    closers.unshift(() => core.close());
    if (config.providerUrl !== undefined) await registerEmbeddedProvider(core, config.providerUrl, config.providerKey);
    const server = await startApiServer(core, config, log);
    closers.unshift(() => server.close());
    announceApi(server, config);
  });
}
