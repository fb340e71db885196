import { fork } from 'node:child_process';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { Client } from '../dist/demo/client.js';

/** Where the embedded Postgres listens. */
async function databaseUrl(folder) {
  const password = (await readFile(join(folder, 'password'), 'utf8')).trim();
  const port = (await readFile(join(folder, 'data', 'postmaster.pid'), 'utf8')).split('\n')[3];
  return `postgresql://craft:${password}@127.0.0.1:${port}/craft`;
}

/**
 * The whole service as `npm start` runs it, on data of its own. `provider` is the embedded one, with its key.
 * @param {Record<string, string>} [environment]
 * @param {(line: string) => void} [onLog] takes the lines of its log, which otherwise go to standard error
 */
export async function startService(environment = {}, onLog = undefined) {
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
    stdio: ['ignore', 'ignore', onLog ? 'pipe' : 'inherit', 'ipc'],
  });
  if (onLog) createInterface({ input: service.stderr }).on('line', onLog);
  const exited = new Promise((resolve) => service.once('exit', resolve));
  const { url, apiKey, provider } = await new Promise((resolve) => service.once('message', resolve));
  return {
    client: new Client(url, apiKey),
    url,
    apiKey,
    pid: service.pid,
    databaseUrl: () => databaseUrl(join(folder, 'postgres')),
    provider,
    async stop() {
      service.disconnect();
      await exited;
      await rm(folder, { recursive: true, force: true });
    },
  };
}
