import { describe, expect, test } from 'vitest';
import { Dataset } from '../../../src/datasets/dataset.js';
import type { DatasetLimits } from '../../../src/datasets/limits.js';
import { dataUri, image, ingestBytes, jsonl, type Line } from '../../helpers/dataset-files.js';

const cat = await image(1);
const dog = await image(2);
const good: Line[] = [
  { image: dataUri(cat), label: 'cat' },
  { image: dataUri(dog), label: 'dog' },
];

describe('a JSONL that is taken', () => {
  test('with embedded images, splits and labels as written', async () => {
    const { classes, report, folder } = await ingestBytes(
      jsonl([
        ...good,
        { image: dataUri(await image(3)), label: '  hot-dog_e\u0301 ', split: 'validation' },
        { image: dataUri(await image(4)), label: 'hot-dog_\u00e9' },
      ]),
    );
    expect(classes).toEqual(['cat', 'dog', 'hot-dog_\u00e9']);
    expect(report.images).toEqual({ train: 3, validation: 1 });
    const dataset = await Dataset.open('file-x', folder);
    expect(await dataset.read(dataset.images[0])).toEqual(cat);
    await dataset.close();
  });

  test('with a byte order mark, blank lines, CRLF and no last line break', async () => {
    const text = `\ufeff\r\n\n${good.map((line) => JSON.stringify(line)).join('\r\n\r\n')}`;
    const { report } = await ingestBytes(Buffer.from(text));
    expect(report.images.train).toBe(2);
  });

  test('in any order of lines', async () => {
    const lines = [...good, { image: dataUri(await image(3)), label: 'cat' }];
    const read = async (order: Line[]) => {
      const { folder, report } = await ingestBytes(jsonl(order));
      const dataset = await Dataset.open('file-x', folder);
      await dataset.close();
      return { report, images: dataset.images.map((image) => ({ ...image, offset: 0 })) };
    };
    expect(await read(lines)).toEqual(await read([...lines].reverse()));
  });

  test('without the images that do not decode', async () => {
    const { report } = await ingestBytes(
      jsonl([
        ...good,
        { image: dataUri(cat.subarray(0, -20)), label: 'cat' },
        { image: 'data:image/png;base64,%%%%', label: 'cat' },
      ]),
    );
    expect(report.images.train).toBe(2);
    expect(report.rejected.map(({ entry, reason }) => [entry, reason])).toEqual([
      ['line 3', 'image_undecodable'],
      ['line 4', 'invalid_base64'],
    ]);
  });
});

interface Refused {
  what: string;
  lines: (Line | string)[];
  code: string;
  says: string;
  status?: number;
  limits?: Partial<DatasetLimits>;
}

const refused: Refused[] = [
  { what: 'a line that is no JSON', lines: [...good, '{"image":'], code: 'invalid_jsonl', says: 'Line 3' },
  { what: 'a line that is no object', lines: [...good, '[1]'], code: 'invalid_jsonl', says: 'Line 3' },
  { what: 'very deep JSON', lines: [...good, '['.repeat(1_000_000)], code: 'invalid_jsonl', says: 'Line 3' },
  { what: 'a line without image', lines: [{ label: 'cat' }], code: 'invalid_jsonl', says: '"image"' },
  { what: 'an image that is no text', lines: [{ image: 5, label: 'cat' }], code: 'invalid_jsonl', says: '"image"' },
  { what: 'a line without label', lines: [{ image: dataUri(cat) }], code: 'invalid_jsonl', says: '"label"' },
  { what: 'a number for a label', lines: [{ image: dataUri(cat), label: 5 }], code: 'invalid_jsonl', says: '"label"' },
  { what: 'an unknown split', lines: [{ ...good[0], split: 'holdout' }], code: 'invalid_jsonl', says: '"split"' },
  { what: 'a blank label', lines: [...good, { ...good[0], label: '  ' }], code: 'invalid_label', says: 'Line 3' },
  { what: 'a label with NUL', lines: [{ ...good[0], label: 'a\0b' }], code: 'invalid_label', says: 'control' },
  {
    what: 'half a surrogate pair',
    lines: ['{"image":"data:,","label":"\\ud800"}'],
    code: 'invalid_label',
    says: 'control',
  },
  {
    what: 'labels that differ in case',
    lines: [...good, { ...good[0], label: 'CAT' }],
    code: 'duplicate_class',
    says: '"cat" and "CAT"',
  },
  {
    what: 'a file name',
    lines: [{ image: 'cat/1.png', label: 'cat' }],
    code: 'image_not_embedded',
    says: 'upload a ZIP',
  },
  {
    what: 'a URL',
    lines: [{ image: 'https://example.org/1.png', label: 'cat' }],
    code: 'image_url_not_supported',
    says: 'Line 1',
  },
  { what: 'one class', lines: [good[0]], code: 'too_few_classes', says: '"cat"' },
  {
    what: 'a class without a decodable image',
    lines: [...good, { image: dataUri(Buffer.from('x')), label: 'bird' }],
    code: 'class_without_images',
    says: '"bird"',
  },
  { what: 'too many lines', lines: good, code: 'too_many_entries', says: '1 lines', limits: { maxEntries: 1 } },
  {
    what: 'a line without end',
    lines: [`{"image":"${'A'.repeat(200_000)}"`],
    code: 'line_too_long',
    says: 'Line 1',
    limits: { maxImageBytes: 1000 },
  },
];

test.each(refused)('refused: $what', async ({ lines, code, says, status = 400, limits }) => {
  const refusal = await ingestBytes(jsonl(lines), limits).catch((error: unknown) => error);
  expect(refusal).toMatchObject({ status, code, param: 'file', message: expect.stringContaining(says) });
});

test('refused: a line that is not UTF-8', async () => {
  const bytes = Buffer.concat([jsonl(good), Buffer.from('\n{"image":"data:,","label":"caf\xe9"}', 'latin1')]);
  await expect(ingestBytes(bytes)).rejects.toMatchObject({
    code: 'invalid_jsonl',
    message: expect.stringContaining('Line 3'),
  });
});
