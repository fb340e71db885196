import { spawnSync } from 'node:child_process';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { withFileLock } from '../../../src/db/embedded/file-lock.js';
import { identify, isAlive, ownIdentity } from '../../../src/db/embedded/process-identity.js';

let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'craft-lock-'));
});
afterEach(() => rm(folder, { recursive: true, force: true }));

describe('withFileLock', () => {
  async function countOverlaps(tasks: number): Promise<{ done: number; most: number }> {
    let [inside, most, done] = [0, 0, 0];
    await Promise.all(
      Array.from({ length: tasks }, () =>
        withFileLock(folder, 30_000, async () => {
          most = Math.max(most, ++inside);
          await new Promise((resolve) => setImmediate(resolve));
          inside--;
          done++;
        }),
      ),
    );
    return { done, most };
  }

  it('lets one in at a time', async () => {
    expect(await countOverlaps(20)).toEqual({ done: 20, most: 1 });
  });

  it.each([
    ['a process that ended', { pid: 2 ** 30, started: 'x' }],
    ['an earlier process with a pid that is in use again', { pid: process.pid, started: 'long ago' }],
  ])('takes over from %s, one at a time', async (_, owner) => {
    await writeFile(join(folder, '7'), JSON.stringify(owner));
    expect(await countOverlaps(10)).toEqual({ done: 10, most: 1 });
  });

  it('lets the next one in after a task that fails', async () => {
    await expect(withFileLock(folder, 1_000, () => Promise.reject(new Error('no')))).rejects.toThrow('no');
    expect(await withFileLock(folder, 1_000, async () => 'in')).toBe('in');
  });

  it('says who holds it when that takes too long', async () => {
    await withFileLock(folder, 1_000, async () => {
      await expect(withFileLock(folder, 50, async () => 'in')).rejects.toThrow(`Process ${process.pid}`);
    });
  });
});

describe('process identity', () => {
  it('tells a living process from one that ended', async () => {
    expect(await isAlive(await ownIdentity())).toBe(true);
    expect(await identify(process.pid)).toEqual(await ownIdentity());
    const { pid } = spawnSync(process.execPath, ['--version']);
    expect(await identify(pid)).toBeUndefined();
  });
});
