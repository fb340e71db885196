import { fileURLToPath } from 'node:url';
import type { Config } from '../config.js';
import { createLogger } from '../logger.js';
import { startReferenceProvider } from '../reference-provider/start.js';
import { serve } from './shutdown.js';

const MODEL_DIRECTORY = fileURLToPath(new URL('../../models/emoji-clip', import.meta.url));

/** The embedded black box alone, on CRAFT_PROVIDER_PORT. */
export async function provider(config: Config): Promise<void> {
  const log = createLogger(config.logLevel === 'info' ? 'warn' : config.logLevel, 'provider');
  await serve(log, async (closers) => {
    const running = await startReferenceProvider({
      modelDirectory: MODEL_DIRECTORY,
      host: config.host,
      port: config.providerPort,
      apiKeys: config.providerKey === undefined ? undefined : [config.providerKey],
      controlKey: config.providerKey,
      idempotency: config.providerIdempotency,
      stateFile: config.providerState,
      logger: { level: log.level, stream: process.stderr },
    });
    closers.unshift(() => running.close());
    if (process.send) process.send({ url: running.url });
    else process.stdout.write(`Reference provider listens on ${running.url}\n`);
  });
}
