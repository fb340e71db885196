import { fork } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Client } from '../dist/demo/client.js';

/** The whole service as `npm start` runs it, on data of its own. `provider` is the embedded one, with its key. */
export async function startService(environment = {}) {
  const folder = await mkdtemp(join(tmpdir(), 'craft-bench-'));
  const service = fork(fileURLToPath(new URL('../dist/main.js', import.meta.url)), ['start'], {
    env: {
      ...process.env,
      PORT: '0',
      CRAFT_DATA_DIR: folder,
      CRAFT_API_KEY: '',
      DATABASE_URL: '',
      REDIS_URL: '',
      LOG_LEVEL: 'warn',
      ...environment,
    },
    stdio: ['ignore', 'ignore', 'inherit', 'ipc'],
  });
  const exited = new Promise((resolve) => service.once('exit', resolve));
  const { url, apiKey, provider } = await new Promise((resolve) => service.once('message', resolve));
  return {
    client: new Client(url, apiKey),
    provider,
    async stop() {
      service.disconnect();
      await exited;
      await rm(folder, { recursive: true, force: true });
    },
  };
}
