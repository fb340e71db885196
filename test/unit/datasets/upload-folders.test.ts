import { mkdir, readdir, utimes, writeFile } from 'node:fs/promises';
import { hostname } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { UploadFolders } from '../../../src/datasets/upload-folders.js';
import { temporaryFolder } from '../../helpers/dataset-files.js';

const LONG_AGO = new Date(Date.now() - 3_600_000);
const nothingLive = async () => new Map<string, boolean>();

/** A folder under incoming/ as another process would have left it. */
async function leftover(directory: string, name: string, { old = false } = {}): Promise<void> {
  const folder = join(directory, 'incoming', name);
  await mkdir(folder, { recursive: true });
  await writeFile(join(folder, 'content'), 'x');
  if (!old) return;
  await utimes(join(folder, 'content'), LONG_AGO, LONG_AGO);
  await utimes(folder, LONG_AGO, LONG_AGO);
}

test('an upload grows apart and is published in one step', async () => {
  const directory = await temporaryFolder();
  const folders = new UploadFolders(directory);
  const incoming = await folders.createIncoming('file-a');
  await writeFile(join(incoming, 'content'), 'x');
  expect(await readdir(directory)).toEqual(['incoming']);
  await folders.publish(incoming, 'file-a');
  expect(await readdir(folders.of('file-a'))).toEqual(['content', 'uncommitted']);
  await folders.commit('file-a');
  expect(await readdir(folders.of('file-a'))).toEqual(['content']);
  expect(await readdir(join(directory, 'incoming'))).toEqual([]);
});

test('a sweep removes what dead processes left, and nothing that may be in use', async () => {
  const directory = await temporaryFolder();
  const folders = new UploadFolders(directory);
  const own = await folders.createIncoming('file-own');
  const dead = 2 ** 30;
  await leftover(directory, `file-a~${hostname()}~${dead}~abc`);
  await leftover(directory, `file-b~${hostname()}~${process.pid}~abc`);
  await leftover(directory, `file-c~${hostname()}~${process.ppid}~abc`);
  await leftover(directory, `file-d~${hostname()}~${process.ppid}~abc`, { old: true });
  await leftover(directory, 'file-e~elsewhere~1~abc');
  await leftover(directory, 'file-f~elsewhere~1~abc', { old: true });
  await folders.sweep(nothingLive);
  const left = (await readdir(join(directory, 'incoming'))).map((name) => name.split('~')[0]);
  expect(left.sort()).toEqual(['file-c', 'file-e', 'file-own']);
  await folders.discardIncoming(own);
});

test('a sweep settles published folders by their rows, and never removes one on a guess', async () => {
  const directory = await temporaryFolder();
  const folders = new UploadFolders(directory);
  const publish = async (id: string, { committed = false, old = false } = {}) => {
    await folders.publish(await folders.createIncoming(id), id);
    if (committed) await folders.commit(id);
    else if (old) await utimes(join(folders.of(id), 'uncommitted'), LONG_AGO, LONG_AGO);
  };
  await publish('file-live', { committed: true });
  await publish('file-deleted', { committed: true });
  await publish('file-without-row', { committed: true });
  await publish('file-just-published');
  await publish('file-abandoned', { old: true });
  await publish('file-live-unmarked', { old: true });
  await folders.sweep(async (ids) => {
    expect(ids).toHaveLength(6);
    return new Map([
      ['file-live', true],
      ['file-deleted', false],
      ['file-live-unmarked', true],
    ]);
  });
  expect((await readdir(directory)).sort()).toEqual([
    'file-just-published',
    'file-live',
    'file-live-unmarked',
    'file-without-row',
    'incoming',
  ]);
  expect(await readdir(folders.of('file-live-unmarked'))).toEqual([]);
});

test('a sweep of a directory that is not there yet does nothing', async () => {
  await new UploadFolders(join(await temporaryFolder(), 'none')).sweep(nothingLive);
});
