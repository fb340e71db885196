import { describe, expect, test } from 'vitest';
import { Dataset } from '../../../src/datasets/dataset.js';
import { dataUri, example, image, ingestBytes, jsonl, rawZip, twoClasses, zip } from '../../helpers/dataset-files.js';

async function layout(entries: Record<string, Buffer>) {
  const { report, classes, folder } = await ingestBytes(await zip(entries));
  const dataset = await Dataset.open('file-x', folder);
  await dataset.close();
  return { report, classes, images: dataset.images.map(({ split, classIndex, name }) => [split, classIndex, name]) };
}

describe('folders of a ZIP', () => {
  test('one folder per class', async () => {
    const { classes, images, report } = await layout(await twoClasses());
    expect(classes).toEqual(['cat', 'dog']);
    expect(images).toEqual([
      ['train', 0, 'cat/1.png'],
      ['train', 1, 'dog/1.png'],
    ]);
    expect(report).toEqual({
      images: { train: 2, validation: 0 },
      classes: [
        { name: 'cat', train: 1, validation: 0 },
        { name: 'dog', train: 1, validation: 0 },
      ],
      rejected: [],
      rejected_count: 0,
      ignored_count: 0,
      duplicates: 0,
      notes: [],
    });
  });

  test.each(['validation', 'val', 'Valid'])('train/ and %s/', async (folder) => {
    const { images, report } = await layout({
      ...(await twoClasses('train/')),
      [`${folder}/cat/9.png`]: await image(9),
    });
    expect(images).toEqual([
      ['train', 0, 'train/cat/1.png'],
      ['train', 1, 'train/dog/1.png'],
      ['validation', 0, `${folder}/cat/9.png`],
    ]);
    expect(report.images).toEqual({ train: 2, validation: 1 });
    expect(report.classes[0]).toEqual({ name: 'cat', train: 1, validation: 1 });
  });

  test.each(['set/', 'set/train/'])('all of it in one folder: %s', async (prefix) => {
    const { classes, report } = await layout({ 'set/': Buffer.alloc(0), ...(await twoClasses(prefix)) });
    expect(classes).toEqual(['cat', 'dog']);
    expect(report.rejected_count).toBe(0);
  });

  test('a class of trains is no split', async () => {
    const { classes, images } = await layout({ 'train/1.png': await image(1), 'bus/1.png': await image(2) });
    expect(classes).toEqual(['bus', 'train']);
    expect(images).toEqual([
      ['train', 0, 'bus/1.png'],
      ['train', 1, 'train/1.png'],
    ]);
  });

  test('display names from folders', async () => {
    const { classes, report } = await layout({
      'animal-mammal/1.png': await image(1),
      'sky__weather /1.png': await image(2),
      'cafe\u0301/1.png': await image(3),
    });
    expect(classes).toEqual(['animal mammal', 'caf\u00e9', 'sky weather']);
    expect(report.classes[0]).toEqual({ name: 'animal mammal', folder: 'animal-mammal', train: 1, validation: 0 });
  });

  test('test images are left out, with a note', async () => {
    const { report, images } = await layout({
      ...(await twoClasses('train/')),
      'test/cat/1.png': await image(3),
      'test/bird/1.png': await image(4),
    });
    expect(images).toHaveLength(2);
    expect(report.ignored_count).toBe(2);
    expect(report.notes).toEqual([expect.stringContaining('The 2 files under test/ were left out')]);
    const one = await layout({ ...(await twoClasses('train/')), 'test/cat/1.png': await image(3) });
    expect(one.report.notes).toEqual([expect.stringContaining('The file under test/ was left out')]);
  });

  test('system files and loose documents are ignored', async () => {
    const junk = Buffer.from('junk');
    const { report } = await layout({
      ...(await twoClasses()),
      '__MACOSX/cat/._1.png': junk,
      'cat/.DS_Store': junk,
      'dog/Thumbs.db': junk,
      '.git/config': junk,
      'README.md': junk,
    });
    expect(report.ignored_count).toBe(5);
    expect(report.rejected_count).toBe(0);
  });

  test('misplaced images and documents among the images are rejected one by one', async () => {
    const { report } = await layout({
      ...(await twoClasses()),
      'cat/2.png': await image(3),
      'cat/more/3.png': await image(4),
      'loose.png': await image(5),
      'dog/notes.txt': Buffer.from('notes'),
    });
    expect(report.rejected.map(({ entry, reason }) => [entry, reason])).toEqual([
      ['cat/more/3.png', 'nested_too_deep'],
      ['dog/notes.txt', 'unsupported_image_format'],
      ['loose.png', 'no_class_folder'],
    ]);
  });

  test('UTF-8 names are understood without their flag', async () => {
    const { classes } = await ingestBytes(
      rawZip([
        { name: 'chat noir/1.png', data: await image(1), flags: 0 },
        { name: 'élan/1.png', data: await image(2), flags: 0 },
      ]),
    );
    expect(classes).toEqual(['chat noir', 'élan']);
  });

  test('the order of entries does not matter', async () => {
    const entries = Object.entries({ ...(await twoClasses()), 'cat/0.png': await image(7), 'Ω/1.png': await image(8) });
    const one = await layout(Object.fromEntries(entries));
    const other = await layout(Object.fromEntries(entries.reverse()));
    expect(other).toEqual(one);
    expect(one.images.map(([, , name]) => name)).toEqual(['cat/0.png', 'cat/1.png', 'dog/1.png', 'Ω/1.png']);
  });
});

describe('a list in a ZIP', () => {
  test('defines classes and splits in place of the folders', async () => {
    const { classes, images, report } = await layout({
      'images/a.png': await image(1),
      'images/b.png': await image(2),
      'images/c.png': await image(3),
      'metadata.jsonl': jsonl([
        { image: 'images/a.png', label: ' Tabby-cat ' },
        { image: './images/b.png', label: 'dog' },
        { image: dataUri(await image(4)), label: 'dog', split: 'validation' },
        { image: 'images/gone.png', label: 'dog' },
      ]),
    });
    expect(classes).toEqual(['Tabby-cat', 'dog']);
    expect(images.slice(0, 2)).toEqual([
      ['train', 0, 'images/a.png'],
      ['train', 1, 'images/b.png'],
    ]);
    expect(images[2].slice(0, 2)).toEqual(['validation', 1]);
    expect(report.rejected).toEqual([
      { entry: 'images/gone.png', reason: 'image_missing', message: expect.stringContaining('Line 4') },
    ]);
    expect(report.ignored_count).toBe(1);
  });

  test('may lie in the common folder and name images from there or from the top', async () => {
    const { images } = await layout({
      'set/a.png': await image(1),
      'set/b.png': await image(2),
      'set/list.jsonl': jsonl([
        { image: 'a.png', label: 'a' },
        { image: 'set/b.png', label: 'b' },
      ]),
    });
    expect(images.map(([, , name]) => name)).toEqual(['a.png', 'b.png']);
  });

  test('may name an image again, but not as something else', async () => {
    const again = (label: string) => ({ image: 'a.png', label });
    const entries = { 'a.png': await image(1), 'b.png': await image(2), 'c.png': await image(3) };
    const list = [again('a'), again('a'), { image: 'b.png', label: 'b' }, { image: 'c.png', label: 'a' }];
    const same = await layout({ ...entries, 'l.jsonl': jsonl(list) });
    expect(same.images.map(([, , name]) => name)).toEqual(['a.png', 'c.png', 'b.png']);
    expect(same.report.duplicates).toBe(1);
    const other = await layout({ ...entries, 'l.jsonl': jsonl([...list, again('b')]) });
    expect(other.images.map(([, , name]) => name)).toEqual(['c.png', 'b.png']);
    expect(other.report.rejected).toMatchObject([
      { entry: 'a.png', reason: 'conflicting_label' },
      { entry: 'a.png', reason: 'conflicting_label' },
    ]);
  });
});

test.each(['fluent-contrast-subgroups', 'fluent-flat-subgroups'])('%s is taken whole, within 3 s', async (name) => {
  const bytes = await example(`${name}.zip`);
  const description = JSON.parse((await example(`${name}.json`)).toString());
  let ingested = await timed(bytes);
  // A machine that stalls says nothing about the ingest.
  for (let tries = 1; ingested.took >= 3000 && tries < 3; tries++) ingested = await timed(bytes);
  expect(ingested.took).toBeLessThan(3000);
  const { classes, report } = ingested;
  expect(classes).toEqual(description.classes.map((entry: { name: string }) => entry.name));
  expect(report.classes.map(({ train }) => train)).toEqual(
    description.classes.map((entry: { images: number }) => entry.images),
  );
  expect(report.images).toEqual({ train: 825, validation: 0 });
  expect(report.rejected_count).toBe(0);
});

async function timed(bytes: Parameters<typeof ingestBytes>[0]) {
  const start = performance.now();
  const ingested = await ingestBytes(bytes);
  return { ...ingested, took: performance.now() - start };
}
