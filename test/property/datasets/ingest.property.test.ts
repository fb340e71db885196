import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { Dataset } from '../../../src/datasets/dataset.js';
import { ingest } from '../../../src/datasets/ingest.js';
import { compareCodePoints } from '../../../src/datasets/report.js';
import { CraftError } from '../../../src/errors.js';
import { dataUri, image, inPieces, jsonl, rawZip, readAll, smallLimits, zip } from '../../helpers/dataset-files.js';

const pictures = await Promise.all(Array.from({ length: 40 }, (_, i) => image(i)));
const plain = rawZip(
  pictures.slice(0, 4).map((data, i) => ({ name: `${i % 2 ? 'a' : 'b'}/${i}.png`, data, deflate: i > 1 })),
);
const listed = await zip({
  '1.png': pictures[1],
  '2.png': pictures[2],
  'list.jsonl': jsonl([
    { image: '1.png', label: 'a' },
    { image: '2.png', label: 'b' },
  ]),
});
const lines = jsonl(pictures.slice(0, 4).map((bytes, i) => ({ image: dataUri(bytes), label: i % 2 ? 'a' : 'b' })));

const csv = Buffer.from(
  `image,label\n${pictures
    .slice(0, 4)
    .map((bytes, i) => `"${dataUri(bytes)}",${i % 2 ? 'a' : 'b'}\n`)
    .join('')}`,
);
const chat = Buffer.from(
  pictures
    .slice(0, 4)
    .map((bytes, i) =>
      JSON.stringify({
        messages: [
          { role: 'user', content: [{ type: 'image_url', image_url: { url: dataUri(bytes) } }] },
          { role: 'assistant', content: i % 2 ? 'a' : 'b' },
        ],
      }),
    )
    .join('\n'),
);
const metadata = await zip({
  'train/1.png': pictures[1],
  'train/2.png': pictures[2],
  'train/metadata.csv': Buffer.from('file_name,text\n1.png,a\n2.png,b\n'),
  'validation/3.png': pictures[3],
  'validation/metadata.jsonl': Buffer.from('{"file_name":"3.png","label":"a"}'),
  'classes.json': Buffer.from('{"a":{"name":"one","description":"The first."}}'),
});

/** Ingests into a folder that is removed again; fails on anything but a data set or a refusal with a 4xx. */
async function outcome<T>(bytes: Buffer, check: (folder: string) => Promise<T>): Promise<T | CraftError> {
  const folder = await mkdtemp(join(tmpdir(), 'craft-property-'));
  try {
    await ingest(inPieces(bytes), folder, { limits: smallLimits({ maxUploadBytes: 1_000_000 }) });
    return await check(folder);
  } catch (error) {
    if (!(error instanceof CraftError && error.status < 500)) throw error;
    expect(error.message).toMatch(/[.…] ?/);
    return error;
  } finally {
    await rm(folder, { recursive: true });
  }
}

async function readEverything(folder: string): Promise<string[]> {
  const dataset = await Dataset.open('file-x', folder);
  try {
    expect(await readAll(dataset)).toHaveLength(dataset.images.length);
    return dataset.classes;
  } finally {
    await dataset.close();
  }
}

describe('no upload does harm', () => {
  test('random bytes, with and without a signature', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.constantFrom(
          '',
          'PK\x03\x04',
          'PK\x05\x06',
          '{',
          '{"image":"',
          '\n\n{',
          '{"messages":[',
          'image,label\n',
          '"image"\t"label"\n"',
        ),
        fc.uint8Array({ maxLength: 3000 }),
        async (start, rest) => {
          expect(await outcome(Buffer.concat([Buffer.from(start), rest]), readEverything)).toBeInstanceOf(CraftError);
        },
      ),
      { numRuns: 200 },
    );
  });

  test.each([
    ['a ZIP', plain],
    ['a ZIP with a list', listed],
    ['a JSONL', lines],
    ['a CSV', csv],
    ['conversations', chat],
    ['an image folder with metadata', metadata],
  ])('%s with bytes changed, cut out or doubled', async (_, good) => {
    const position = fc.nat({ max: good.length - 1 });
    // Most of what makes a ZIP lies at its end.
    const late = fc.nat({ max: 300 }).map((distance) => Math.max(0, good.length - 1 - distance));
    const change = fc.record({
      at: fc.oneof(position, late),
      bytes: fc.uint8Array({ maxLength: 8 }),
      removed: fc.nat({ max: 8 }),
    });
    await fc.assert(
      fc.asyncProperty(fc.array(change, { minLength: 1, maxLength: 4 }), async (changes) => {
        let bytes = good;
        for (const { at, bytes: inserted, removed } of changes) {
          bytes = Buffer.concat([bytes.subarray(0, at), inserted, bytes.subarray(at + removed)]);
        }
        await outcome(bytes, readEverything);
      }),
      { numRuns: 200 },
    );
  });

  test('overwritten fields of a ZIP keep memory bounded', async () => {
    const before = process.memoryUsage().rss;
    await fc.assert(
      fc.asyncProperty(
        fc.nat({ max: plain.length - 4 }),
        fc.constantFrom(0, 1, 0x7fffffff, 0xffffffff, 0xffff0000),
        async (at, value) => {
          const bytes = Buffer.from(plain);
          bytes.writeUInt32LE(value, at);
          await outcome(bytes, readEverything);
        },
      ),
      { numRuns: 300 },
    );
    expect(process.memoryUsage().rss - before).toBeLessThan(400 * 1024 * 1024);
  });
});

test('every valid layout comes back as it was, whatever the order of its entries', async () => {
  const classNames = fc.uniqueArray(fc.stringMatching(/^[a-zß-öα-ω\u4e00-\u4fff]{3,12}$/), {
    minLength: 2,
    maxLength: 5,
    selector: (name) => name.normalize('NFC').toLowerCase(),
  });
  const layouts = fc.record({
    prefix: fc.constantFrom('', 'train/', 'set/', 'set/train/'),
    classNames,
    perClass: fc.integer({ min: 1, max: 4 }),
    compress: fc.boolean(),
    shuffle: fc.infiniteStream(fc.nat()),
  });
  await fc.assert(
    fc.asyncProperty(layouts, async ({ prefix, classNames, perClass, compress, shuffle }) => {
      const entries = classNames.flatMap((name, c) =>
        Array.from({ length: perClass }, (_, i) => [`${prefix}${name}/${i}.png`, pictures[c * 4 + i]] as const),
      );
      const order = entries.map((entry) => ({ entry, rank: shuffle.next().value as number }));
      const shuffled = order.sort((a, b) => a.rank - b.rank).map(({ entry }) => entry);
      const found = await outcome(await zip(Object.fromEntries(shuffled), compress), async (folder) => {
        const dataset = await Dataset.open('file-x', folder);
        const bytes = await readAll(dataset);
        await dataset.close();
        return dataset.images.map((item, i) => ({ label: dataset.classes[item.classIndex], bytes: bytes[i] }));
      });
      const labels = classNames.map((name) => name.normalize('NFC'));
      const expected = [...labels]
        .sort(compareCodePoints)
        .flatMap((label) =>
          Array.from({ length: perClass }, (_, i) => ({ label, bytes: pictures[labels.indexOf(label) * 4 + i] })),
        );
      expect(found).toEqual(expected);
    }),
    { numRuns: 60 },
  );
});

test('lists of every format make one data set, in any order of lines', async () => {
  const cell = (text: string) => `"${text.replaceAll('"', '""')}"`;
  const formats: Record<string, (rows: Row[]) => Promise<Buffer>> = {
    jsonl: async (rows) => jsonl(rows.map(({ bytes, ...row }) => ({ image: dataUri(bytes), ...row }))),
    csv: async (rows) => csvOf(rows, ({ bytes }) => cell(dataUri(bytes))),
    chat: async (rows) => jsonl(rows.map(toConversation)),
    'csv in a zip': async (rows) =>
      zip({
        ...Object.fromEntries(rows.map(({ bytes }) => [nameOf(bytes), bytes])),
        'list.csv': csvOf(rows, ({ bytes }) => nameOf(bytes)),
      }),
  };
  const csvOf = (rows: Row[], place: (row: Row) => string) =>
    Buffer.from(
      ['split;category;path', ...rows.map((row) => [row.split, cell(row.label), place(row)].join(';'))].join('\r\n'),
    );
  const labels = fc.uniqueArray(fc.stringMatching(/^[a-z",;' ß-ö]{1,12}$/), {
    minLength: 2,
    maxLength: 4,
    selector: (label) => label.trim().toLowerCase(),
  });
  const usable = labels.filter((all) => all.every((label) => label.trim() !== ''));
  await fc.assert(
    fc.asyncProperty(
      usable,
      fc.integer({ min: 1, max: 5 }),
      fc.infiniteStream(fc.nat()),
      async (all, size, shuffle) => {
        const rows = all.flatMap((label, c) =>
          Array.from({ length: size }, (_, i) => ({
            bytes: pictures[c * 5 + i],
            label,
            split: i === 1 ? 'validation' : 'train',
          })),
        );
        const expected = rows.map(({ bytes, label, split }) => [split, label.trim(), nameOf(bytes)].join()).sort();
        for (const write of Object.values(formats)) {
          const order = rows.map((row) => ({ row, rank: shuffle.next().value as number }));
          const shuffled = order.sort((a, b) => a.rank - b.rank).map(({ row }) => row);
          const found = await outcome(await write(shuffled), async (folder) => {
            const dataset = await Dataset.open('file-x', folder);
            const bytes = await readAll(dataset);
            await dataset.close();
            return dataset.images
              .map(({ split, classIndex }, i) => [split, dataset.classes[classIndex], nameOf(bytes[i])].join())
              .sort();
          });
          expect(found).toEqual(expected);
        }
      },
    ),
    { numRuns: 30 },
  );
});

interface Row {
  bytes: Buffer;
  label: string;
  split: string;
}

function nameOf(bytes: Buffer): string {
  return `${pictures.findIndex((picture) => picture.equals(bytes))}.png`;
}

function toConversation({ bytes, label, split }: Row): string {
  const url = dataUri(bytes);
  return JSON.stringify({
    messages: [
      { role: 'user', content: [{ type: 'image_url', image_url: { url } }] },
      { role: 'assistant', content: label },
    ],
    split,
  });
}

test('strings are ordered by code point', () => {
  fc.assert(
    fc.property(fc.string({ unit: 'binary' }), fc.string({ unit: 'binary' }), (a, b) => {
      const expected = Math.sign(Buffer.compare(Buffer.from(a), Buffer.from(b)));
      expect(Math.sign(compareCodePoints(a, b))).toBe(expected);
    }),
  );
});
