import { spawn } from 'node:child_process';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { testDatabase } from '../helpers/postgres.js';

const path = (relative: string) => fileURLToPath(new URL(relative, import.meta.url));
/** What trains heads and runs models; neither has a place where requests are answered. */
const HEAVY = /\/node_modules\/(@tensorflow|onnxruntime)/;

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'craft-modules-'));
});
afterAll(() => rm(folder, { recursive: true, force: true }));

/** Modules that a command has imported by the time at which it serves, and the native libraries that it has opened. */
async function loadedBy(command: string): Promise<{ modules: string[]; maps: string }> {
  const { connectionString } = await testDatabase();
  const file = join(folder, `${command}.txt`);
  const child = spawn(
    process.execPath,
    ['--import', path('../helpers/loaded-modules.mjs'), path('../../dist/main.js'), command],
    {
      env: {
        ...process.env,
        LOADED_MODULES: file,
        PORT: '0',
        CRAFT_DATA_DIR: join(folder, command),
        DATABASE_URL: connectionString,
        REDIS_URL: '',
        LOG_LEVEL: 'warn',
      },
      stdio: ['ignore', 'pipe', 'inherit'],
    },
  );
  const exited = new Promise((resolve) => child.once('exit', resolve));
  try {
    await new Promise<void>((resolve, reject) => {
      child.stdout.on('data', (text) => /listens on/.test(String(text)) && resolve());
      child.once('exit', (code) => reject(new Error(`${command} ended with status ${code}.`)));
    });
    const maps = await readFile(`/proc/${child.pid}/maps`, 'utf8').catch(() => '');
    return { modules: (await readFile(file, 'utf8')).split('\n'), maps };
  } finally {
    child.kill();
    await exited;
  }
}

describe('what a process loads', () => {
  it('the API: neither TensorFlow.js nor a model runtime', async () => {
    const { modules, maps } = await loadedBy('api');
    // The note-taking itself works.
    expect(modules.some((url) => url.includes('/node_modules/fastify/'))).toBe(true);
    expect(modules.filter((url) => HEAVY.test(url))).toEqual([]);
    expect(maps).not.toMatch(/onnxruntime/);
  });

  it('the embedded provider: its model runtime, and nothing to train with', async () => {
    const { modules } = await loadedBy('provider');
    expect(modules.some((url) => url.includes('onnxruntime'))).toBe(true);
    expect(modules.filter((url) => url.includes('@tensorflow'))).toEqual([]);
  });
});
