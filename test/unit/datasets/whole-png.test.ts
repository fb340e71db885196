import { crc32, deflateSync } from 'node:zlib';
import sharp from 'sharp';
import { describe, expect, test } from 'vitest';
import { wholeSmallPng } from '../../../src/datasets/whole-png.js';

const SIZE = { width: 9, height: 7 };

function pixels(channels: 1 | 2 | 3 | 4) {
  const data = Buffer.from(Array.from({ length: SIZE.width * SIZE.height * channels }, (_, i) => (i * 37) % 251));
  return sharp(data, { raw: { ...SIZE, channels } });
}

function chunk(type: string, data: Buffer): Buffer {
  const named = Buffer.concat([Buffer.from(type, 'latin1'), data]);
  const [length, checksum] = [Buffer.alloc(4), Buffer.alloc(4)];
  length.writeUInt32BE(data.length);
  checksum.writeUInt32BE(crc32(named));
  return Buffer.concat([length, named, checksum]);
}

/** A grey PNG of 3 × 2 pixels whose checksums are right, whatever is in it. */
function made(
  change: Partial<{ header: number[]; rows: number[]; data: Buffer[]; before: Buffer; between: Buffer }> = {},
) {
  const header = Buffer.from(change.header ?? [0, 0, 0, 3, 0, 0, 0, 2, 8, 0, 0, 0, 0]);
  const data = change.data ?? [deflateSync(Buffer.from(change.rows ?? [0, 1, 2, 3, 4, 5, 6, 7]))];
  return Buffer.concat([
    Buffer.from('\x89PNG\r\n\x1a\n', 'latin1'),
    chunk('IHDR', header),
    change.before ?? Buffer.alloc(0),
    ...data.flatMap((part, i) => [...(i > 0 && change.between ? [change.between] : []), chunk('IDAT', part)]),
    chunk('IEND', Buffer.alloc(0)),
  ]);
}

const rows = deflateSync(Buffer.from([0, 1, 2, 3, 4, 5, 6, 7]));

describe('whole', () => {
  test.each([1, 2, 3, 4] as const)('%i samples a pixel', async (channels) => {
    const space = channels < 3 ? 'b-w' : 'srgb';
    expect(wholeSmallPng(await pixels(channels).toColourspace(space).png().toBuffer())).toEqual(SIZE);
  });

  test('data in parts, and what else a decoder does not mind', () => {
    expect(wholeSmallPng(made())).toEqual({ width: 3, height: 2 });
    const before = Buffer.concat([chunk('gAMA', Buffer.alloc(4, 1)), chunk('tEXt', Buffer.from('a\0b'))]);
    expect(wholeSmallPng(made({ before, data: [rows.subarray(0, 5), rows.subarray(5)] }))).not.toBeNull();
  });
});

describe('for a decoder to tell', () => {
  test('what is more than 8 plain bits a sample, or large', async () => {
    const others = [
      pixels(3).png({ palette: true }),
      pixels(3).png({ progressive: true }),
      pixels(3).toColourspace('rgb16').png(),
      pixels(3).resize(300, 300).png(),
      pixels(3).jpeg(),
    ];
    for (const other of others) expect(wholeSmallPng(await other.toBuffer())).toBeNull();
  });

  test('any one byte changed, missing or in excess', async () => {
    const png = await pixels(4).png().toBuffer();
    for (let at = 0; at < png.length; at++) {
      const changed = Buffer.from(png);
      changed[at] ^= 1 << (at % 8);
      expect(wholeSmallPng(changed)).toBeNull();
      expect(wholeSmallPng(png.subarray(0, at))).toBeNull();
    }
    expect(wholeSmallPng(Buffer.concat([png, Buffer.alloc(12)]))).toBeNull();
  });

  test('so many chunks that reading them takes long, though all are right', () => {
    const data = [...new Array<Buffer>(22_000).fill(Buffer.alloc(0)), rows];
    expect(wholeSmallPng(made({ data: data.slice(-10) }))).toEqual({ width: 3, height: 2 });
    expect(wholeSmallPng(made({ data }))).toBeNull();
  });

  test.each<[string, Parameters<typeof made>[0]]>([
    ['a row too few', { rows: [0, 1, 2, 3] }],
    ['a row too many', { rows: [0, 1, 2, 3, 4, 5, 6, 7, 0, 1, 2, 3] }],
    ['an unknown filter', { rows: [5, 1, 2, 3, 4, 5, 6, 7] }],
    ['no pixels', { header: [0, 0, 0, 0, 0, 0, 0, 2, 8, 0, 0, 0, 0] }],
    ['pixels beyond all memory', { header: [255, 255, 255, 255, 255, 255, 255, 255, 8, 6, 0, 0, 0] }],
    ['more bytes than rows of that size take', { before: chunk('tEXt', Buffer.alloc(256 * 1024, 65)) }],
    ['a short header', { header: [0, 0, 0, 3, 0, 0, 0, 2, 8, 0, 0, 0] }],
    ['an unknown colour type', { header: [0, 0, 0, 3, 0, 0, 0, 2, 8, 7, 0, 0, 0] }],
    ['no data', { data: [] }],
    ['bytes after the data', { data: [rows, Buffer.from([1])] }],
    ['data that does not inflate', { data: [Buffer.from('no rows at all')] }],
    [
      'data in two places',
      { data: [rows.subarray(0, 5), rows.subarray(5)], between: chunk('tEXt', Buffer.from('a\0b')) },
    ],
    ['a palette', { before: chunk('PLTE', Buffer.alloc(3)) }],
    ['a second header', { before: chunk('IHDR', Buffer.from([0, 0, 0, 3, 0, 0, 0, 2, 8, 0, 0, 0, 0])) }],
  ])('%s, though the checksums are right', (_, change) => {
    expect(wholeSmallPng(made(change))).toBeNull();
  });
});
