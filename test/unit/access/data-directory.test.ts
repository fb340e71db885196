import { mkdtemp, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, it, onTestFinished } from 'vitest';
import { ensureDataDirectory } from '../../../src/access/data-directory.js';

it('makes the data directory, and says at once where that cannot be', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'craft-data-'));
  onTestFinished(() => rm(folder, { recursive: true, force: true }));
  const data = join(folder, 'a', 'b');
  ensureDataDirectory(data);
  ensureDataDirectory(data);
  expect((await stat(data)).isDirectory()).toBe(true);
  await writeFile(join(folder, 'file'), '');
  expect(() => ensureDataDirectory(join(folder, 'file', 'data'))).toThrow(
    /cannot be written \(ENOTDIR\).*CRAFT_DATA_DIR/,
  );
});
