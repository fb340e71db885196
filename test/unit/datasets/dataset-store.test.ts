import { createHash } from 'node:crypto';
import { readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { PassThrough, type Readable } from 'node:stream';
import { buffer } from 'node:stream/consumers';
import { beforeAll, expect, test } from 'vitest';
import { DatasetStore } from '../../../src/datasets/dataset-store.js';
import type { Database } from '../../../src/db/client.js';
import {
  dataUri,
  image,
  inPieces,
  jsonl,
  rawZip,
  readAll,
  smallLimits,
  temporaryFolder,
  twoClasses,
  zip,
} from '../../helpers/dataset-files.js';
import { testDatabase } from '../../helpers/postgres.js';

let database: Database;
beforeAll(async () => {
  ({ database } = await testDatabase());
});

async function newStore() {
  await database.file.deleteMany();
  const directory = await temporaryFolder();
  return { directory, store: new DatasetStore({ database, directory, limits: smallLimits() }) };
}

const upload = (bytes: Buffer, filename = 'set.zip') => ({ stream: inPieces(bytes), filename, purpose: 'fine-tune' });
const good = await zip(await twoClasses());

test('an upload is kept, listed, read and deleted', async () => {
  const { store, directory } = await newStore();
  const record = await store.create(upload(good, 'C:\\sets\\my "set".zip'));
  expect(record).toMatchObject({
    id: expect.stringMatching(/^file-[0-9a-z]{24}$/),
    filename: 'my "set".zip',
    bytes: good.length,
    sha256: createHash('sha256').update(good).digest('hex'),
    purpose: 'fine-tune',
    classes: ['cat', 'dog'],
    report: { images: { train: 2, validation: 0 } },
  });
  expect(await store.get(record.id)).toEqual(record);
  expect(await store.list({ limit: 10 })).toEqual({ data: [record], hasMore: false });
  expect((await readdir(join(directory, record.id))).sort()).toEqual(['content', 'images.bin', 'manifest.json']);

  const content = await store.openContent(record.id);
  expect(content).toMatchObject({ bytes: good.length, filename: 'my "set".zip', mediaType: 'application/zip' });
  expect(await buffer(content.stream)).toEqual(good);
  const dataset = await store.open(record.id);
  expect(await readAll(dataset)).toEqual([await image(1), await image(2)]);

  await store.delete(record.id);
  expect(await readAll(dataset)).toHaveLength(2);
  await dataset.close();
  expect(await readdir(directory)).toEqual(['incoming']);
  for (const call of ['get', 'open', 'openContent', 'delete'] as const) {
    await expect(store[call](record.id)).rejects.toMatchObject({ status: 404, code: 'file_not_found' });
  }
  expect((await store.list({ limit: 10 })).data).toEqual([]);
});

test('a JSONL is given back as one', async () => {
  const { store } = await newStore();
  const bytes = jsonl([
    { image: dataUri(await image(1)), label: 'a' },
    { image: dataUri(await image(2)), label: 'b' },
  ]);
  const { id } = await store.create(upload(bytes, 'set.zip'));
  const content = await store.openContent(id);
  expect(content.mediaType).toBe('application/jsonl');
  expect(await buffer(content.stream)).toEqual(bytes);
});

test('pages in both directions', async () => {
  const { store } = await newStore();
  const ids: string[] = [];
  for (let i = 0; i < 5; i++) ids.push((await store.create(upload(good))).id);
  // Files of the same millisecond are told apart by id.
  await database.file.updateMany({ where: { id: { in: ids.slice(1, 3) } }, data: { createdAt: new Date(0) } });
  for (const order of ['asc', 'desc'] as const) {
    const whole = (await store.list({ limit: 10, order })).data.map(({ id }) => id);
    const paged: string[] = [];
    let more = true;
    while (more) {
      const page = await store.list({ limit: 2, order, after: paged.at(-1) });
      paged.push(...page.data.map(({ id }) => id));
      more = page.hasMore;
    }
    expect(paged).toEqual(whole);
    expect([...paged].sort()).toEqual([...ids].sort());
  }
  await store.delete(ids[1]);
  expect((await store.list({ limit: 10, after: ids[1], order: 'asc' })).data).not.toContainEqual(
    expect.objectContaining({ id: ids[1] }),
  );
  await expect(store.list({ limit: 2, after: 'file-none' })).rejects.toMatchObject({ status: 400, param: 'after' });
});

test('whatever names a hostile file has, Postgres can keep the report', async () => {
  const { store } = await newStore();
  const list = jsonl([
    { image: '1.png', label: 'a' },
    { image: '2.png', label: 'b' },
    '{"image":"\\ud800\\u0007\\u2028.png","label":"a"}',
  ]);
  const bytes = rawZip([
    { name: '1.png', data: await image(1) },
    { name: '2.png', data: await image(2) },
    { name: 'list.jsonl', data: list },
  ]);
  const record = await store.create(upload(bytes, `a\0\ud800/\u0007b\u{1f600}${'x'.repeat(300)}`));
  expect(record.filename).toHaveLength(255);
  expect(record.filename).toMatch(/^b\u{1f600}x+$/u);
  expect(record.report.rejected).toMatchObject([{ entry: '\ufffd\ufffd\ufffd.png', reason: 'image_missing' }]);
});

test('another purpose is refused before anything is read', async () => {
  const { store, directory } = await newStore();
  const stream = inPieces(good);
  await expect(store.create({ stream, filename: 'set.zip', purpose: 'assistants' })).rejects.toMatchObject({
    status: 400,
    code: 'invalid_purpose',
    param: 'purpose',
  });
  expect(stream.destroyed).toBe(true);
  expect(await readdir(directory)).toEqual([]);
});

test.each<[string, () => { stream: Readable; code: string }]>([
  ['refused', () => ({ stream: inPieces(Buffer.from('PK\x03\x04')), code: 'invalid_zip' })],
  ['refused after its images were stored', () => ({ stream: inPieces(rawZip([])), code: 'too_few_classes' })],
  ['cut off', () => ({ stream: cutOff(), code: 'upload_aborted' })],
])('nothing stays of an upload that is %s', async (_, make) => {
  const { store, directory } = await newStore();
  const { stream, code } = make();
  await expect(store.create({ stream, filename: 'set.zip', purpose: 'fine-tune' })).rejects.toMatchObject({ code });
  expect(await readdir(directory)).toEqual(['incoming']);
  expect(await readdir(join(directory, 'incoming'))).toEqual([]);
  expect(await database.file.count()).toBe(0);
});

test('nothing stays of an upload whose row cannot be written', async () => {
  const { directory } = await newStore();
  const failing = new Proxy(database, {
    get: (target, key) =>
      key === 'file'
        ? {
            create: () => Promise.reject(new Error('no connection')),
            deleteMany: (query: object) => target.file.deleteMany(query),
          }
        : Reflect.get(target, key),
  });
  const store = new DatasetStore({ database: failing, directory, limits: smallLimits() });
  await expect(store.create(upload(good))).rejects.toThrow('no connection');
  expect(await readdir(directory)).toEqual(['incoming']);
});

test('a sweep keeps what is stored and finishes a deletion', async () => {
  const { store, directory } = await newStore();
  const kept = await store.create(upload(good));
  const half = await store.create(upload(good));
  await database.file.update({ where: { id: half.id }, data: { deletedAt: new Date() } });
  await store.sweep();
  expect((await readdir(directory)).sort()).toEqual([kept.id, 'incoming'].sort());
  await (await store.open(kept.id)).close();
});

test('a stored data set that lost its files is reported as damaged', async () => {
  const { store, directory } = await newStore();
  const { id } = await store.create(upload(good));
  await rm(join(directory, id), { recursive: true });
  await expect(store.open(id)).rejects.toMatchObject({ status: 500, code: 'dataset_corrupt' });
  await expect(store.openContent(id)).rejects.toMatchObject({ status: 500, code: 'dataset_corrupt' });
});

function cutOff(): Readable {
  const stream = new PassThrough();
  stream.write(good.subarray(0, 100));
  setTimeout(() => stream.destroy(), 20);
  return stream;
}
