import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect, it, onTestFinished } from 'vitest';
import { firstLine } from '../helpers/postgres-process.js';

const PROGRAM = fileURLToPath(new URL('../../dist/main.js', import.meta.url));

it('the embedded black box leaves no identifier in the home directory, as telemetry would', async () => {
  const home = await mkdtemp(join(tmpdir(), 'craft-home-'));
  onTestFinished(() => rm(home, { recursive: true, force: true }));
  const { PATH } = process.env;
  const child = spawn(process.execPath, [PROGRAM, 'provider'], {
    env: { PATH, HOME: home },
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  onTestFinished(() => void child.kill('SIGKILL'));
  expect(await firstLine(child)).toMatch(/listens on/);
  const exit = once(child, 'exit');
  child.kill('SIGTERM');
  await exit;
  expect(await readdir(home, { recursive: true })).toEqual([]);
});
