import { describe, expect, test } from 'vitest';
import { ClassTexts } from '../../../src/datasets/class-texts.js';
import { datasetOf, dataUri, image, ingestBytes, jsonl, zip } from '../../helpers/dataset-files.js';

const folders = { 'n01-cat/1.png': await image(1), n02_dog: await image(2) };
const entries = { 'n01-cat/1.png': folders['n01-cat/1.png'], 'n02_dog/1.png': folders.n02_dog };
const withFile = async (texts: unknown, prefix = '') =>
  zip(
    Object.fromEntries(
      Object.entries({ ...entries, 'classes.json': Buffer.from(JSON.stringify(texts)) }).map(([name, bytes]) => [
        prefix + name,
        bytes,
      ]),
    ),
  );
const field = (texts: unknown) => ({ classTexts: async () => ClassTexts.parse(JSON.stringify(texts), 'classes') });

describe('names and descriptions of classes', () => {
  test.each<[string, unknown]>([
    ['by folder', { 'n01-cat': { name: 'tabby', description: ' A cat. ' }, n02_dog: 'a dog' }],
    [
      'by the name that a folder stands for',
      { 'n01 cat': { name: 'tabby', description: 'A cat.' }, 'n02 dog': 'a dog' },
    ],
    [
      'as a list',
      [
        { folder: 'n02_dog', name: 'a dog' },
        { label: 'n01-cat', name: 'tabby', description: 'A cat.' },
      ],
    ],
  ])('come from the ZIP, %s', async (_, texts) => {
    for (const prefix of ['', 'set/']) {
      const { classes, descriptions, images, report } = await datasetOf(await withFile(texts, prefix));
      expect([classes, descriptions]).toEqual([
        ['a dog', 'tabby'],
        [null, 'A cat.'],
      ]);
      expect(images.map(({ label, name }) => [label, name])).toEqual([
        ['a dog', 'n02_dog/1.png'],
        ['tabby', 'n01-cat/1.png'],
      ]);
      expect(report.classes).toEqual([
        { name: 'a dog', folder: 'n02_dog', train: 1, validation: 0 },
        { name: 'tabby', folder: 'n01-cat', description: 'A cat.', train: 1, validation: 0 },
      ]);
      expect(report.ignored_count).toBe(0);
    }
  });

  test('of the form field go before those of the ZIP, each by itself', async () => {
    const { classes, descriptions } = await datasetOf(
      await withFile({ 'n01-cat': { name: 'tabby', description: 'A cat.' }, n02_dog: { description: 'A dog.' } }),
      {},
      field({ 'n01 cat': { name: 'tom' } }),
    );
    expect([classes, descriptions]).toEqual([
      ['n02 dog', 'tom'],
      ['A dog.', 'A cat.'],
    ]);
  });

  test('can be given for any format, and go before the descriptions of a CSV', async () => {
    const lines = jsonl([
      { image: dataUri(await image(1)), label: 'A' },
      { image: dataUri(await image(2)), label: 'B' },
    ]);
    const { classes, report } = await datasetOf(lines, {}, field({ A: 'apple', B: { name: 'bear' } }));
    expect(classes).toEqual(['apple', 'bear']);
    expect(report.classes[0]).toMatchObject({ name: 'apple', folder: 'A' });
    const csv = `image,label,description\n"${dataUri(await image(1))}",A,one\n"${dataUri(await image(2))}",B,two\n`;
    const described = await datasetOf(Buffer.from(csv), {}, field({ A: { description: 'first' } }));
    expect(described.descriptions).toEqual(['first', 'two']);
  });

  test('tell folders apart that would stand for one class', async () => {
    const bytes = await zip({ 'a-1/1.png': await image(1), 'a_1/1.png': await image(2) });
    await expect(ingestBytes(bytes)).rejects.toMatchObject({ code: 'duplicate_class' });
    expect((await datasetOf(bytes, {}, field({ 'a-1': 'one', a_1: 'two' }))).classes).toEqual(['one', 'two']);
  });

  test('are to blame only for names that they give', async () => {
    const bytes = await zip({ 'a/1.png': await image(1), 'b/1.png': await image(2), 'B/1.png': await image(3) });
    const refused = async (texts: unknown) => ingestBytes(bytes, {}, field(texts)).catch((error: unknown) => error);
    const ofField = { code: 'duplicate_class', param: 'classes', message: expect.stringContaining('field "classes"') };
    expect(await refused({ a: { name: 'one', description: 'first' } })).toMatchObject({
      code: 'duplicate_class',
      param: 'file',
    });
    expect(await refused({ B: { description: 'last' } })).toMatchObject({ code: 'duplicate_class', param: 'file' });
    expect(await refused({ B: 'c', b: 'A' })).toMatchObject(ofField);
    expect(await refused({ B: 'c', a: 'b' })).toMatchObject(ofField);
  });
});

test.each<[string, unknown, string, string]>([
  ['a class that there is not', { 'n01-cat': 'a', bird: 'b' }, 'unknown_class', '"bird"'],
  ['a class twice, in other words', { 'n01-cat': 'a', 'n01 cat': 'b' }, 'unknown_class', '"n01 cat"'],
  ['a class twice', [{ folder: 'n01-cat' }, { label: ' n01-cat' }], 'invalid_classes', '"n01-cat" twice'],
  ['one name for two classes', { 'n01-cat': 'Pet', n02_dog: 'pet' }, 'duplicate_class', '"n01-cat" and "n02_dog"'],
  ['an empty name', { 'n01-cat': '  ' }, 'invalid_label', 'empty'],
  ['an empty description', { 'n01-cat': { description: ' ' } }, 'invalid_description', '"n01-cat"'],
  ['a long description', { 'n01-cat': { description: 'x'.repeat(501) } }, 'invalid_description', '500'],
  ['a description of two lines', { 'n01-cat': { description: 'a\nb' } }, 'invalid_description', 'line breaks'],
  ['a list of names', ['cat'], 'invalid_classes', 'entry 0'],
  ['an entry without its class', [{ name: 'cat' }], 'invalid_classes', 'entry 0'],
  ['an entry with two classes', [{ folder: 'n01-cat', label: 'n01 cat' }], 'invalid_classes', 'entry 0'],
  ['a number', { 'n01-cat': 5 }, 'invalid_classes', '"n01-cat"'],
  ['an unknown property', { 'n01-cat': { title: 'x' } }, 'invalid_classes', '"n01-cat"'],
  ['null', null, 'invalid_classes', 'neither'],
])('refused: %s', async (_, texts, code, says) => {
  const inZip = await ingestBytes(await withFile(texts)).catch((error: unknown) => error);
  expect(inZip).toMatchObject({ status: 400, code, param: 'file', message: expect.stringContaining(says) });
  const inForm = await (async () => ingestBytes(await zip(entries), {}, field(texts)))().catch(
    (error: unknown) => error,
  );
  expect(inForm).toMatchObject({ status: 400, code, param: 'classes', message: expect.stringContaining(says) });
});

test.each([
  ['no JSON', Buffer.from('{'), 'invalid_classes'],
  ['no UTF-8', Buffer.from('"\xe9"', 'latin1'), 'invalid_classes'],
  ['too large', Buffer.alloc(1024 * 1024 + 1, 32), 'list_too_large'],
])('refused: a classes.json that is %s', async (_, bytes, code) => {
  await expect(ingestBytes(await zip({ ...entries, 'classes.json': bytes }))).rejects.toMatchObject({ code });
});
