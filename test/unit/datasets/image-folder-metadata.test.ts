import { describe, expect, test } from 'vitest';
import { datasetOf, image, ingestBytes, jsonl, twoClasses, zip } from '../../helpers/dataset-files.js';

/** Hugging Face's image folders with a metadata file. */

const pictures = await Promise.all([1, 2, 3, 4].map((seed) => image(seed)));
const lines = (...rows: object[]) => Buffer.from(rows.map((row) => JSON.stringify(row)).join('\n'));
const summary = ({ images }: Awaited<ReturnType<typeof datasetOf>>) =>
  images.map(({ split, label, name }) => `${split} ${label} ${name}`);

describe('metadata files', () => {
  test.each(['', 'data/'])('one per split folder, of either format, under "%s"', async (prefix) => {
    const entries = {
      'train/a.png': pictures[0],
      'train/deep/b.png': pictures[1],
      'train/metadata.jsonl': lines(
        { file_name: 'a.png', text: 'cat', extra: [1] },
        { file_name: 'deep/b.png', text: 'dog' },
      ),
      'validation/a.png': pictures[2],
      'validation/metadata.csv': Buffer.from('file_name,label\na.png,dog\n'),
      'test/a.png': pictures[3],
      'test/metadata.csv': Buffer.from('file_name,label\na.png,dog\n'),
    };
    const found = await datasetOf(
      await zip(Object.fromEntries(Object.entries(entries).map(([name, bytes]) => [prefix + name, bytes]))),
    );
    expect(summary(found)).toEqual([
      'train cat train/a.png',
      'train dog train/deep/b.png',
      'validation dog validation/a.png',
    ]);
    expect(found.report).toMatchObject({ rejected_count: 0, ignored_count: 2 });
  });

  test('one at the top, where folders tell the split', async () => {
    const found = await datasetOf(
      await zip({
        'train/a.png': pictures[0],
        'b.png': pictures[1],
        'val/a.png': pictures[2],
        'test/a.png': pictures[3],
        'metadata.jsonl': lines(
          { file_name: 'train/a.png', label: 'cat' },
          { file_name: 'b.png', label: 'dog' },
          { file_name: 'val/a.png', label: 'dog' },
          { file_name: 'test/a.png', label: 'bird' },
        ),
      }),
    );
    expect(summary(found)).toEqual(['train cat train/a.png', 'train dog b.png', 'validation dog val/a.png']);
    expect(found.classes).toEqual(['cat', 'dog']);
  });

  test('a split that an entry names itself goes before that of its folder', async () => {
    const csv = 'file_name,class,split\na.png,cat,\nb.png,dog,train\n c.png,dog,validation\n';
    const found = await datasetOf(
      await zip({
        'train/a.png': pictures[0],
        'train/b.png': pictures[1],
        'train/c.png': pictures[2],
        'train/metadata.csv': Buffer.from(csv),
      }),
    );
    expect(summary(found)).toEqual(['train cat train/a.png', 'train dog train/b.png', 'validation dog train/c.png']);
  });

  test('of the test folder alone leave the class folders as they are', async () => {
    const { images } = await datasetOf(
      await zip({ ...(await twoClasses('train/')), 'test/metadata.csv': Buffer.from('x') }),
    );
    expect(images.map(({ label }) => label)).toEqual(['cat', 'dog']);
  });

  test('are named in errors', async () => {
    const bytes = await zip({
      'train/metadata.jsonl': lines({ file_name: 'a.png', label: 'cat' }, { file_name: 'a.png' }),
      'validation/metadata.csv': Buffer.from('file_name,label\n'),
    });
    await expect(ingestBytes(bytes)).rejects.toMatchObject({
      code: 'invalid_jsonl',
      message: expect.stringMatching(/train\/metadata\.jsonl.*Line 2 has no "label"/),
    });
  });
});

test.each([
  ['two lists at the top', ['a.csv', 'b.jsonl']],
  ['one at the top and one in a split folder', ['metadata.csv', 'train/metadata.csv']],
  ['two in one split folder', ['train/metadata.csv', 'train/metadata.jsonl']],
])('refused: %s', async (_, names) => {
  const list = jsonl([{ image: 'a.png', label: 'a' }]);
  const bytes = await zip(Object.fromEntries([...names, 'a.png', 'train/a.png'].map((name) => [name, list])));
  await expect(ingestBytes(bytes)).rejects.toMatchObject({ code: 'several_lists', param: 'file' });
});
