import { readdir } from 'node:fs/promises';
import { describe, expect, test } from 'vitest';
import type { DatasetLimits } from '../../../src/datasets/limits.js';
import { image, ingestBytes, jsonl, type RawEntry, rawZip, twoClasses, zip } from '../../helpers/dataset-files.js';

const cat = await image(1);
const dog = await image(2);
const good: RawEntry[] = [
  { name: 'cat/1.png', data: cat },
  { name: 'dog/1.png', data: dog },
];

const LINK = 0o120777;
const DEVICE = 0o020666;

interface Hostile {
  what: string;
  make: () => Buffer | Promise<Buffer>;
  code: string;
  status?: number;
  says?: string;
  limits?: Partial<DatasetLimits>;
}

const withEntry = (entry: RawEntry) => () => rawZip([...good, entry]);
const withPath = (name: string, says = '') => ({
  what: `path ${JSON.stringify(name)}`,
  make: withEntry({ name, data: Buffer.from('x') }),
  code: 'unsafe_path',
  says,
});

const cases: Hostile[] = [
  withPath('../evil.png', '../evil.png'),
  withPath('cat/../../evil.png', 'parent folder'),
  withPath('..', 'parent folder'),
  withPath('/etc/passwd', 'absolute'),
  withPath('C:/evil.png', 'drive'),
  withPath('cat\\..\\evil.png', 'backslash'),
  withPath('cat/evil\0.png', 'NUL'),
  withPath('__MACOSX/../../evil'),
  withPath(`cat/${'x'.repeat(2000)}.png`, '1024'),
  {
    what: 'a symbolic link',
    make: withEntry({ name: 'cat/2.png', data: Buffer.from('/etc/passwd'), mode: LINK }),
    code: 'unsafe_path',
    says: 'cat/2.png',
  },
  { what: 'a device', make: withEntry({ name: 'cat/2.png', mode: DEVICE }), code: 'unsafe_path' },
  { what: 'an empty file', make: () => Buffer.alloc(0), code: 'empty_file' },
  { what: 'a text', make: () => Buffer.from('hello'), code: 'unsupported_file_format', says: 'JSONL' },
  { what: 'a single image', make: () => cat, code: 'unsupported_file_format' },
  { what: 'a RAR', make: () => Buffer.from('Rar!\x1a\x07\x00'), code: 'unsupported_file_format' },
  { what: 'a ZIP signature and nothing else', make: () => Buffer.from('PK\x03\x04'), code: 'invalid_zip' },
  { what: 'a ZIP cut in half', make: () => rawZip(good).subarray(0, 150), code: 'invalid_zip' },
  { what: 'a ZIP without its last byte', make: () => rawZip(good).subarray(0, -1), code: 'invalid_zip' },
  {
    what: 'a ZIP with bytes after its end',
    make: () => Buffer.concat([rawZip(good), Buffer.from('tail')]),
    code: 'invalid_zip',
  },
  { what: 'a directory that lies elsewhere', make: () => rawZip(good, { directoryOffset: 5 }), code: 'invalid_zip' },
  {
    what: 'a directory beyond the end',
    make: () => rawZip(good, { directoryOffset: 0xfffffff0 }),
    code: 'invalid_zip',
  },
  { what: 'a directory with fewer entries than said', make: () => rawZip(good, { count: 9 }), code: 'invalid_zip' },
  {
    what: 'an entry beyond the end',
    make: withEntry({ name: 'cat/2.png', data: cat, offset: 0x7fffffff }),
    code: 'invalid_zip',
  },
  {
    what: 'a broken extra field',
    make: withEntry({ name: 'cat/2.png', data: cat, extra: Buffer.from([1, 0, 99, 0, 1]) }),
    code: 'invalid_zip',
  },
  { what: 'an empty ZIP', make: () => rawZip([]), code: 'too_few_classes' },
  {
    what: 'an encrypted entry',
    make: withEntry({ name: 'cat/2.png', data: cat, flags: 0x801, deflate: true }),
    code: 'encrypted_zip',
  },
  { what: 'strong encryption', make: withEntry({ name: 'cat/2.png', data: cat, flags: 0x841 }), code: 'encrypted_zip' },
  {
    what: 'two entries of one name',
    make: withEntry({ name: 'cat/1.png', data: dog }),
    code: 'duplicate_entry',
    says: 'cat/1.png',
  },
  {
    what: 'names that are the same in composed Unicode',
    make: () => rawZip([...good, { name: 'cat/\u00e9.png', data: cat }, { name: 'cat/e\u0301.png', data: cat }]),
    code: 'duplicate_entry',
  },
  {
    what: 'a name hidden by a dot folder',
    make: withEntry({ name: './cat//1.png', data: dog }),
    code: 'duplicate_entry',
  },
  { what: 'too many entries', make: () => rawZip(good), code: 'too_many_entries', limits: { maxEntries: 1 } },
  {
    what: 'a bomb in one entry',
    make: withEntry({ name: 'cat/bomb.png', data: Buffer.alloc(5_000_000), deflate: true }),
    code: 'zip_bomb',
    says: 'cat/bomb.png',
  },
  {
    what: 'a bomb in ignored entries',
    make: withEntry({ name: '.bomb', data: Buffer.alloc(5_000_000), deflate: true }),
    code: 'zip_bomb',
  },
  {
    what: 'a bomb of many harmless entries',
    make: () =>
      rawZip([
        ...good,
        ...Array.from({ length: 20 }, (_, i) => ({ name: `cat/b${i}`, data: Buffer.alloc(1_000_000), deflate: true })),
      ]),
    code: 'zip_bomb',
    says: 'expands',
  },
  {
    what: 'more expanded bytes than allowed',
    make: () => rawZip(good),
    code: 'expanded_too_large',
    status: 413,
    limits: { maxExpandedBytes: 100 },
  },
  {
    what: 'entries that share their bytes',
    make: () => rawZip([...good, { name: 'cat/2.png', data: cat, offset: 0 }]),
    code: 'zip_bomb',
    says: 'overlap',
  },
  {
    what: 'a quine-like entry that spans the others',
    make: withEntry({ name: 'cat/2.png', data: Buffer.alloc(0), offset: 10, compressedSize: 50, size: 50 }),
    code: 'zip_bomb',
  },
  {
    what: 'more bytes than allowed',
    make: () => rawZip(good),
    code: 'file_too_large',
    status: 413,
    limits: { maxUploadBytes: 200 },
  },
  { what: 'one class', make: () => rawZip([good[0]]), code: 'too_few_classes', says: '"cat"' },
  {
    what: 'images in no folder',
    make: () => rawZip([{ name: '1.png', data: cat }]),
    code: 'too_few_classes',
    says: 'class folder',
  },
  {
    what: 'only test images',
    make: () => rawZip(good.map(({ name, data }) => ({ name: `test/${name}`, data }))),
    code: 'too_few_classes',
    says: 'test/',
  },
  {
    what: 'classes that differ in case',
    make: withEntry({ name: 'Cat/2.png', data: cat }),
    code: 'duplicate_class',
    says: '"Cat" and "cat"',
  },
  {
    what: 'classes that differ in a hyphen',
    make: () => rawZip([...good, { name: 'big-cat/1', data: cat }, { name: 'big_cat/1', data: dog }]),
    code: 'duplicate_class',
    says: '"big-cat" and "big_cat"',
  },
  {
    what: 'a class folder without images',
    make: () => rawZip([...good, { name: 'bird/' }]),
    code: 'class_without_images',
    says: '"bird"',
  },
  {
    what: 'a class whose only image is damaged',
    make: withEntry({ name: 'bird/1.png', data: Buffer.from('\x89PNG\r\n\x1a\nxxxx', 'latin1') }),
    code: 'class_without_images',
    says: 'bird/1.png',
  },
  {
    what: 'a class with validation images only',
    make: async () => zip({ ...(await twoClasses('train/')), 'validation/bird/1.png': await image(5) }),
    code: 'class_without_images',
    says: '"bird"',
  },
  {
    what: 'a folder whose name is only hyphens',
    make: withEntry({ name: '---/1.png', data: cat }),
    code: 'invalid_label',
    says: 'is empty',
  },
  {
    what: 'a folder with control characters',
    make: withEntry({ name: 'b\x07rd/1.png', data: cat }),
    code: 'invalid_label',
    says: 'control',
  },
  {
    what: 'a folder with a very long name',
    make: withEntry({ name: `${'b'.repeat(201)}/1.png`, data: cat }),
    code: 'invalid_label',
    says: '200',
  },
  { what: 'too many classes', make: () => rawZip(good), code: 'too_many_classes', limits: { maxClasses: 1 } },
  {
    what: 'mostly rubbish',
    make: () => rawZip([...good, ...[1, 2, 3].map((i) => ({ name: `cat/x${i}`, data: Buffer.from('x') }))]),
    code: 'too_many_rejected',
    says: 'cat/x1',
  },
  { what: 'two lists', make: () => rawZip([...good, { name: 'a.jsonl' }, { name: 'b.jsonl' }]), code: 'several_lists' },
  {
    what: 'a list that leads out',
    make: () => rawZip([...good, { name: 'a.jsonl', data: jsonl([{ image: '../x', label: 'a' }]) }]),
    code: 'unsafe_path',
  },
  {
    what: 'a list that is damaged',
    make: () => rawZip([...good, { name: 'a.jsonl', data: Buffer.from('{}'), crc: 1 }]),
    code: 'invalid_zip',
    says: 'a.jsonl',
  },
  {
    what: 'a list with a wrong line',
    make: () => rawZip([...good, { name: 'a.jsonl', data: jsonl([{ image: 'cat/1.png', label: 'a' }, '{"image"']) }]),
    code: 'invalid_jsonl',
    says: 'Line 2',
  },
  {
    what: 'a list that names one large image again and again',
    make: () =>
      rawZip([
        ...good,
        {
          name: 'a.jsonl',
          data: jsonl(Array.from({ length: 50 }, (_, i) => ({ image: 'cat/1.png', label: `label ${i}` }))),
        },
      ]),
    code: 'expanded_too_large',
    status: 413,
    limits: { maxExpandedBytes: 4000 },
  },
  {
    what: 'more pixels in all than allowed',
    make: () => rawZip(good),
    code: 'too_many_pixels',
    status: 413,
    limits: { maxTotalPixels: 20 },
  },
];

describe('refused uploads', () => {
  test.each(cases)('$what', async ({ make, code, status = 400, says = '', limits }) => {
    const refusal = await ingestBytes(await make(), limits).catch((error: unknown) => error);
    expect(refusal).toMatchObject({ status, code, param: 'file', message: expect.stringContaining(says) });
  });

  test.runIf(process.platform === 'linux')('no file stays open after them', async () => {
    const before = await readdir('/proc/self/fd');
    for (const { make, limits } of cases) await expect(ingestBytes(await make(), limits)).rejects.toThrow();
    expect((await readdir('/proc/self/fd')).length).toBeLessThanOrEqual(before.length);
  });
});
