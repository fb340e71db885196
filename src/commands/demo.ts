import { fork } from 'node:child_process';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { type Config, childEnvironment } from '../config.js';
import { runDemo } from '../demo/run-demo.js';
import type { StartedMessage } from './start.js';

const PROGRAM = fileURLToPath(new URL('../main.js', import.meta.url));

/** Starts the real service in a process of its own, on a free port, and walks through it as a user would. */
export async function demo(config: Config): Promise<void> {
  const startedAt = performance.now();
  process.stdout.write('Starting Postgres, the API, a worker and the embedded black box …\n');
  const service = fork(PROGRAM, ['start'], {
    env: childEnvironment({
      HOST: '127.0.0.1',
      PORT: '0',
      CRAFT_DATA_DIR: join(config.dataDirectory, 'demo'),
      CRAFT_API_KEY: '',
      CRAFT_EMBEDDED_PROVIDER: 'true',
      DATABASE_URL: '',
      REDIS_URL: '',
      LOG_LEVEL: 'warn',
    }),
    stdio: ['ignore', 'ignore', 'inherit', 'ipc'],
  });
  const exited = new Promise<void>((resolve) => service.once('exit', () => resolve()));
  try {
    const started = await new Promise<StartedMessage>((resolve, reject) => {
      service.once('message', (message) => resolve(message as StartedMessage));
      service.once('exit', (code) => reject(new Error(`The service ended with status ${code} while starting.`)));
    });
    if (!started.provider) throw new Error('The service started without its embedded provider.');
    const { url, apiKey, provider } = started;
    if (!(await runDemo({ url, apiKey, provider }))) process.exitCode = 1;
  } finally {
    if (service.connected) service.disconnect();
    await exited;
  }
  process.stdout.write(`(${Math.round((performance.now() - startedAt) / 1000)} s)\n`);
}
