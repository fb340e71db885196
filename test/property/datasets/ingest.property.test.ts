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

/** Ingests into a folder that is removed again; fails on anything but a data set or a refusal with a 4xx. */
async function outcome<T>(bytes: Buffer, check: (folder: string) => Promise<T>): Promise<T | CraftError> {
  const folder = await mkdtemp(join(tmpdir(), 'craft-property-'));
  try {
    await ingest(inPieces(bytes), folder, smallLimits({ maxUploadBytes: 1_000_000 }));
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
        fc.constantFrom('', 'PK\x03\x04', 'PK\x05\x06', '{', '{"image":"', '\n\n{'),
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

test('strings are ordered by code point', () => {
  fc.assert(
    fc.property(fc.string({ unit: 'binary' }), fc.string({ unit: 'binary' }), (a, b) => {
      const expected = Math.sign(Buffer.compare(Buffer.from(a), Buffer.from(b)));
      expect(Math.sign(compareCodePoints(a, b))).toBe(expected);
    }),
  );
});
