import { fork } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { fileURLToPath } from 'node:url';
import type { Logger } from 'pino';
import { keptSecret } from './access/kept-secret.js';
import { type Config, childEnvironment } from './config.js';
import type { Core } from './core.js';
import { ConflictError } from './errors.js';
import { providerInputSchema } from './providers/provider-record.js';

const EMBEDDED_PROVIDER_NAME = 'emoji-clip';

/** Statuses with which the reference provider says that it did not serve, and so did not count, a request. */
const UNBILLED_STATUSES = [400, 401, 403, 404, 413, 415, 422, 429, 500, 503];

const PROGRAM = fileURLToPath(new URL('../dist/main.js', import.meta.url));
const RESTART_MS = 1000;

export interface EmbeddedProvider {
  url: string;
  key: string;
  close(): Promise<void>;
}

/** Runs the reference provider as a process of its own, on one port, and starts it again should it die. */
export async function startEmbeddedProvider(config: Config, log: Logger): Promise<EmbeddedProvider> {
  const key =
    config.providerKey ??
    keptSecret(config.dataDirectory, 'provider-key', () => randomBytes(24).toString('base64url')).value;
  let port = config.providerPort;
  let closing = false;
  let child = launch();
  const url = await ready(child).catch((error: unknown) => {
    closing = true;
    child.kill();
    throw error;
  });
  port = Number(new URL(url).port);

  function launch() {
    const launched = fork(PROGRAM, ['provider'], {
      env: childEnvironment({
        HOST: '127.0.0.1',
        CRAFT_PROVIDER_PORT: String(port),
        CRAFT_PROVIDER_KEY: key,
        CRAFT_PROVIDER_IDEMPOTENCY: String(config.providerIdempotency),
        CRAFT_PROVIDER_STATE: config.providerState,
      }),
      stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
    });
    launched.once('exit', (code, signal) => {
      if (!closing) log.error({ code, signal }, 'the embedded provider stopped; starting it again');
      relaunchSoon();
    });
    launched.on('error', (error) => {
      log.error({ err: error }, 'the process of the embedded provider has a problem');
      // A process that never began does not exit either.
      if (launched.pid === undefined) relaunchSoon();
    });
    return launched;
  }

  function relaunchSoon() {
    setTimeout(() => {
      if (!closing) child = launch();
    }, RESTART_MS).unref();
  }

  return {
    url,
    key,
    async close() {
      closing = true;
      if (child.pid === undefined || child.exitCode !== null || child.signalCode !== null) return;
      const exited = new Promise((resolve) => child.once('exit', resolve));
      if (child.connected) child.disconnect();
      await exited;
    },
  };
}

function ready(child: ReturnType<typeof fork>): Promise<string> {
  return new Promise((resolve, reject) => {
    child.once('message', (message) => resolve((message as { url: string }).url));
    child.once('error', reject);
    child.once('exit', (code) => reject(new Error(`The embedded provider ended with status ${code} while starting.`)));
  });
}

/** Registers the embedded black box at first start, and its new address at later ones. */
export async function registerEmbeddedProvider(core: Core, url: string, key: string | undefined): Promise<void> {
  try {
    await register(core, url, key);
  } catch (error) {
    // Another process that starts at the same moment may have done it.
    if (!(error instanceof ConflictError)) throw error;
    if ((await core.providers.findByName(EMBEDDED_PROVIDER_NAME))?.baseUrl !== url) throw error;
  }
}

async function register(core: Core, url: string, key: string | undefined): Promise<void> {
  core.providers.trust(url);
  const known = await core.providers.findByName(EMBEDDED_PROVIDER_NAME);
  const credentials = key === undefined ? null : { type: 'bearer' as const, token: key };
  if (known) {
    if (known.baseUrl !== url) await core.providers.update(known.id, { base_url: url, credentials });
    return;
  }
  const input = providerInputSchema.parse({
    name: EMBEDDED_PROVIDER_NAME,
    protocol: 'open_inference',
    base_url: url,
    remote_model: EMBEDDED_PROVIDER_NAME,
    credentials: credentials ?? undefined,
    limits: { concurrency: 4, images_per_request: 1024, prompts_per_request: 40 },
    settings: { unbilled_statuses: UNBILLED_STATUSES },
  });
  await core.providers.create(input);
}
