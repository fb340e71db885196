import { appendFile, readFile, rm, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { Dataset } from '../../../src/datasets/dataset.js';
import { image, ingestBytes, readAll, zip } from '../../helpers/dataset-files.js';

async function stored() {
  const entries: Record<string, Buffer> = {};
  for (let i = 0; i < 20; i++)
    entries[`${i % 2 ? 'a' : 'b'}/${String(i).padStart(2, '0')}.png`] = await image(i, 'png', 4 + i);
  const bytes = await zip(entries);
  return { entries, bytes, folder: (await ingestBytes(bytes)).folder };
}

test('holds the uploaded bytes, one by one and in batches of any order', async () => {
  const { entries, bytes, folder } = await stored();
  expect(await readFile(join(folder, 'content'))).toEqual(bytes);
  const dataset = await Dataset.open('file-x', folder);
  expect(dataset.images).toHaveLength(20);
  for (const item of dataset.images) expect(await dataset.read(item)).toEqual(entries[item.name]);
  const some = dataset.images.filter((_, index) => index % 3 === 0).reverse();
  expect(await readAll(dataset, some)).toEqual(some.map(({ name }) => entries[name]));
  expect(await readAll(dataset, [])).toEqual([]);
  expect(dataset.images[0]).toMatchObject({
    split: 'train',
    classIndex: 0,
    width: 5,
    height: 4,
    mediaType: 'image/png',
  });
  await dataset.close();
});

test('stays readable when its folder is deleted', async () => {
  const { folder } = await stored();
  const dataset = await Dataset.open('file-x', folder);
  await rm(folder, { recursive: true });
  expect(await readAll(dataset)).toHaveLength(20);
  await dataset.close();
});

test.each<[string, (folder: string) => Promise<void>]>([
  ['the manifest is gone', (folder) => rm(join(folder, 'manifest.json'))],
  ['the manifest is cut', (folder) => truncate(join(folder, 'manifest.json'), 100)],
  ['the manifest is not an object', (folder) => writeFile(join(folder, 'manifest.json'), 'null')],
  ['the manifest is edited', (folder) => edit(folder, '"classIndex":1', '"classIndex":0')],
  ['the manifest is of another version', (folder) => edit(folder, '"version":1', '"version":2')],
  ['the images are gone', (folder) => rm(join(folder, 'images.bin'))],
  ['the images are cut', (folder) => truncate(join(folder, 'images.bin'), 100)],
  ['the images have grown', (folder) => appendFile(join(folder, 'images.bin'), 'x')],
])('is not opened when %s', async (_, damage) => {
  const { folder } = await stored();
  await damage(folder);
  await expect(Dataset.open('file-x', folder)).rejects.toMatchObject({ status: 500, code: 'dataset_corrupt' });
});

test('a manifest from before there were descriptions is read', async () => {
  const { folder } = await stored();
  expect(await readFile(join(folder, 'manifest.json'), 'utf8')).not.toContain('descriptions');
  const dataset = await Dataset.open('file-x', folder);
  expect(dataset.descriptions).toEqual([null, null]);
  await dataset.close();
});

test('descriptions are kept, under the checksum', async () => {
  const classes = Buffer.from(JSON.stringify({ a: { description: 'The first.' } }));
  const { folder } = await ingestBytes(
    await zip({ 'a/1.png': await image(1), 'b/1.png': await image(2), 'classes.json': classes }),
  );
  const dataset = await Dataset.open('file-x', folder);
  expect(dataset.descriptions).toEqual(['The first.', null]);
  await dataset.close();
  await edit(folder, 'The first.', 'The other.');
  await expect(Dataset.open('file-x', folder)).rejects.toMatchObject({ code: 'dataset_corrupt' });
});

async function edit(folder: string, from: string, to: string): Promise<void> {
  const path = join(folder, 'manifest.json');
  const text = await readFile(path, 'utf8');
  expect(text).toContain(from);
  await writeFile(path, text.replace(from, to));
}
