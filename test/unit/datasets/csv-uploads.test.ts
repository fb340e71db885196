import { describe, expect, test } from 'vitest';
import type { DatasetLimits } from '../../../src/datasets/limits.js';
import { datasetOf, dataUri, image, ingestBytes, zip } from '../../helpers/dataset-files.js';

const pictures = await Promise.all([1, 2, 3, 4].map((seed) => image(seed)));
const files = Object.fromEntries(pictures.map((bytes, i) => [`${i + 1}.png`, bytes]));

const withCsv = async (text: string | Buffer, name = 'data.csv', folder = '') =>
  zip(
    Object.fromEntries(
      Object.entries({ ...files, [name]: Buffer.from(text) }).map(([path, bytes]) => [folder + path, bytes]),
    ),
  );
const summary = ({ images }: Awaited<ReturnType<typeof datasetOf>>) =>
  images.map(({ split, label, name }) => `${split} ${label} ${name}`);

describe('a CSV in a ZIP', () => {
  test.each([
    ['image', 'label'],
    ['file_name', 'text'],
    ['filename', 'class'],
    ['file', 'class_name'],
    ['path', 'category'],
    ['Image Path', ' LABEL '],
    ['url', 'label'],
  ])('names its columns %s and %s', async (imageColumn, labelColumn) => {
    const csv = `id,${labelColumn},${imageColumn}\n7,cat,1.png\n8,dog,2.png\n`;
    expect(summary(await datasetOf(await withCsv(csv)))).toEqual(['train cat 1.png', 'train dog 2.png']);
  });

  test.each([
    ['commas', ','],
    ['semicolons', ';'],
    ['tabs', '\t'],
  ])(
    'separates its cells by %s, quotes them, has a byte order mark, CRLF and blank lines',
    async (_, separator) => {
      const rows = [
        ['label', 'image', 'split'],
        ['"a ""big"" cat, black; old"', '1.png', ''],
        ['"dog"', '"2.png"', 'training'],
        ['dog', '3.png', 'Dev'],
        ['dog', '4.png', 'test'],
      ];
      const csv = `\ufeff\r\n${rows.map((row) => row.join(separator)).join('\r\n\r\n')}`;
      const found = await datasetOf(await withCsv(csv));
      expect(summary(found)).toEqual([
        'train a "big" cat, black; old 1.png',
        'train dog 2.png',
        'validation dog 3.png',
      ]);
      expect(found.report.notes).toEqual([expect.stringContaining('The entry of the test split was left out')]);
    },
    20_000,
  );

  test('may lie in the common folder and name images from there or from the top', async () => {
    const bytes = await withCsv('image,label\nset/1.png,cat\n2.png,dog\n', 'list.tsv', 'set/');
    expect(summary(await datasetOf(bytes))).toEqual(['train cat 1.png', 'train dog 2.png']);
  });

  test('rejects the images that are missing and notes those that it does not name', async () => {
    const { report } = await datasetOf(await withCsv('image,label\n1.png,cat\n2.png,dog\ngone.png,dog\n'));
    expect(report.rejected).toEqual([
      { entry: 'gone.png', reason: 'image_missing', message: expect.stringContaining('Line 4') },
    ]);
    expect(report.notes).toEqual([expect.stringContaining('2 files of the ZIP')]);
  });

  test('in UTF-16 is called that it is not UTF-8, not by columns that nobody can read', async () => {
    const list = Buffer.from('\ufeffimage,label\n1.png,cat\n2.png,dog\n', 'utf16le');
    const bytes = await zip({ 'list.csv': list, '1.png': await image(1), '2.png': await image(2) });
    await expect(ingestBytes(bytes)).rejects.toMatchObject({
      code: 'invalid_csv',
      message: 'The CSV is not UTF-8 text. Save it as UTF-8.',
    });
  });

  test('says of a single file that it does not name that it is one', async () => {
    const { report } = await datasetOf(await withCsv('image,label\n1.png,cat\n2.png,dog\n3.png,dog\n'));
    expect(report.notes).toEqual(['1 file of the ZIP was left out because no list names it.']);
  });
});

describe('a CSV by itself', () => {
  test.each([',', ';', '\t'])('has its images embedded, with "%s" between the cells', async (separator) => {
    const cells = [['label', 'image'], ...['cat', 'dog'].map((label, i) => [label, `"${dataUri(pictures[i])}"`])];
    const { images } = await datasetOf(Buffer.from(cells.map((row) => row.join(separator)).join('\n')));
    expect(images.map(({ label, bytes }) => [label, bytes])).toEqual([
      ['cat', pictures[0]],
      ['dog', pictures[1]],
    ]);
  });

  test('describes classes, alike in all rows', async () => {
    const row = (label: string, seed: number, description: string) =>
      `${label},"${dataUri(pictures[seed])}",${description}\n`;
    const head = 'label,image,description\n';
    const { classes, descriptions, report } = await datasetOf(
      Buffer.from(head + row('dog', 0, '') + row('cat', 1, '"says ""meow"""') + row('cat', 2, '"says ""meow"""')),
    );
    expect([classes, descriptions]).toEqual([
      ['cat', 'dog'],
      ['says "meow"', null],
    ]);
    expect(report.classes).toEqual([
      { name: 'cat', description: 'says "meow"', train: 2, validation: 0 },
      { name: 'dog', train: 1, validation: 0 },
    ]);
    const differing = Buffer.from(head + row('dog', 0, '') + row('cat', 1, 'a') + row('cat', 2, 'b'));
    await expect(ingestBytes(differing)).rejects.toMatchObject({
      code: 'conflicting_description',
      message: expect.stringMatching(/Line 4 .*"cat".*Line 3/),
    });
    const long = Buffer.from(head + row('dog', 0, 'x'.repeat(501)));
    await expect(ingestBytes(long)).rejects.toMatchObject({
      code: 'invalid_description',
      message: expect.stringContaining('Line 2'),
    });
  });
});

interface Refused {
  what: string;
  csv: string | Buffer;
  code: string;
  says: string;
  limits?: Partial<DatasetLimits>;
}

test.each<Refused>([
  { what: 'no column for the label', csv: 'image;weight\n1.png;5', code: 'csv_column_missing', says: 'weight' },
  { what: 'no column for the image', csv: 'photo,label\n1.png,5', code: 'csv_column_missing', says: 'photo' },
  { what: 'too few cells', csv: 'image,label\n1.png,cat\n2.png\n', code: 'invalid_csv', says: 'Line 3' },
  { what: 'a separator in a plain cell', csv: 'image,label\n1.png,cat, black\n', code: 'invalid_csv', says: 'Line 2' },
  { what: 'a quote in a plain cell', csv: 'image,label\n1.png,a "b"\n', code: 'invalid_csv', says: 'Line 2' },
  { what: 'an open quote', csv: 'image,label\n1.png,"cat\n', code: 'invalid_csv', says: 'quotes' },
  { what: 'an empty image', csv: 'image,label\n1.png,cat\n,dog\n', code: 'invalid_csv', says: 'Line 3' },
  { what: 'an empty label', csv: 'image,label\n1.png,\n', code: 'invalid_label', says: 'Line 2' },
  { what: 'an unknown split', csv: 'image,label,split\n1.png,cat,some\n', code: 'invalid_csv', says: '"some"' },
  {
    what: 'another encoding',
    csv: Buffer.from('image,label\n1.png,caf\xe9\n', 'latin1'),
    code: 'invalid_csv',
    says: 'UTF-8',
  },
  { what: 'very many cells', csv: `image,label\n${','.repeat(5000)}`, code: 'invalid_csv', says: '1000 columns' },
  {
    what: 'a cell without end',
    csv: `image,label\n"${'a'.repeat(200_000)}`,
    code: 'line_too_long',
    says: 'Line 2',
    limits: { maxImageBytes: 1000 },
  },
  {
    what: 'too many lines',
    csv: 'image,label\n1.png,a\n2.png,b\n',
    code: 'too_many_entries',
    says: '1 lines',
    limits: { maxEntries: 1 },
  },
])('refused: $what', async ({ csv, code, says, limits }) => {
  // Too many entries would be met in the ZIP's directory before; that limit is for the lines here.
  const bytes = limits?.maxEntries
    ? Buffer.from(csv.toString().replace(/\d\.png/g, 'data:image/png'))
    : await withCsv(csv);
  const refusal = await ingestBytes(bytes, limits).catch((error: unknown) => error);
  expect(refusal).toMatchObject({ status: 400, code, param: 'file', message: expect.stringContaining(says) });
});

test('a CSV that names files but comes without them is refused', async () => {
  await expect(ingestBytes(Buffer.from('image,label\n1.png,cat\n'))).rejects.toMatchObject({
    code: 'image_not_embedded',
    message: expect.stringContaining('Line 2'),
  });
});
