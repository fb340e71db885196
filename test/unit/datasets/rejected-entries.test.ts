import { Readable } from 'node:stream';
import { buffer } from 'node:stream/consumers';
import { createDeflateRaw } from 'node:zlib';
import { describe, expect, test } from 'vitest';
import { image, ingestBytes, type RawEntry, rawZip } from '../../helpers/dataset-files.js';

const good: RawEntry[] = [
  { name: 'cat/1.png', data: await image(1) },
  { name: 'dog/1.png', data: await image(2) },
];

describe('rejected entries in an upload that is taken', () => {
  const entries: (RawEntry & { reason: string })[] = [
    { reason: 'entry_corrupt', name: 'cat/wrong-crc.png', data: Buffer.from('x'), crc: 1 },
    { reason: 'entry_corrupt', name: 'cat/longer-than-said.png', data: Buffer.alloc(5000), size: 10, deflate: true },
    { reason: 'entry_corrupt', name: 'cat/shorter-than-said.png', data: Buffer.alloc(10), size: 900, deflate: true },
    { reason: 'entry_corrupt', name: 'cat/no-deflate.png', data: Buffer.from('not deflate'), method: 8 },
    { reason: 'unsupported_compression', name: 'cat/lzma.png', data: Buffer.from('xxx'), method: 14 },
    { reason: 'image_empty', name: 'cat/empty.png' },
    {
      reason: 'unsupported_image_format',
      name: 'cat/svg.png',
      data: Buffer.from('<svg xmlns="http://www.w3.org/2000/svg"/>'),
    },
    { reason: 'image_undecodable', name: 'cat/header-only.jpg', data: Buffer.from('\xff\xd8\xff\xe0', 'latin1') },
    { reason: 'image_undecodable', name: 'cat/header-only.gif', data: Buffer.from('GIF89a') },
    { reason: 'image_undecodable', name: 'cat/header-only.webp', data: Buffer.from('RIFF\x10\0\0\0WEBPVP8 ') },
  ];

  test.each(entries)('$name: $reason', async ({ reason, ...entry }) => {
    const { report } = await ingestBytes(rawZip([...good, entry]));
    expect(report.rejected).toEqual([{ entry: entry.name, reason, message: expect.any(String) }]);
    expect(report.images.train).toBe(2);
  });

  test.each(['png', 'jpeg', 'webp', 'gif'] as const)('a %s cut short', async (format) => {
    const whole = await image(3, format, 64, 64);
    const { report } = await ingestBytes(rawZip([...good, { name: 'cat/cut', data: whole.subarray(0, -20) }]));
    expect(report.rejected).toMatchObject([{ entry: 'cat/cut', reason: 'image_undecodable' }]);
  });

  test('a TIFF, though the decoder could read it', async () => {
    const { report } = await ingestBytes(rawZip([...good, { name: 'cat/2.tif', data: await image(3, 'tiff') }]));
    expect(report.rejected).toMatchObject([{ reason: 'unsupported_image_format' }]);
  });

  test('an image with more bytes or pixels than allowed', async () => {
    const entry = { name: 'cat/large.png', data: await image(3, 'png', 100, 100) };
    const bytes = await ingestBytes(rawZip([...good, entry]), { maxImageBytes: entry.data.length - 1 });
    expect(bytes.report.rejected).toMatchObject([{ entry: 'cat/large.png', reason: 'image_too_large' }]);
    const pixels = await ingestBytes(rawZip([...good, entry]), { maxImagePixels: 9999 });
    expect(pixels.report.rejected).toMatchObject([{ entry: 'cat/large.png', reason: 'image_too_many_pixels' }]);
    const fine = await ingestBytes(rawZip([...good, entry]), { maxImagePixels: 10_000 });
    expect(fine.report.rejected).toEqual([]);
  });

  test('the list of them is capped, their count is not', async () => {
    const bad = ['a', 'b'].map((name) => ({ name: `cat/${name}`, data: Buffer.from('x') }));
    const { report } = await ingestBytes(rawZip([...bad, ...good]), { maxReportedRejections: 1 });
    expect(report.rejected.map(({ entry }) => entry)).toEqual(['cat/a']);
    expect(report.rejected_count).toBe(2);
  });

  test('an entry that expands far beyond what it says, without the memory for it', async () => {
    const bomb = await deflated(600);
    const before = process.resourceUsage().maxRSS;
    const { report } = await ingestBytes(
      rawZip([...good, { name: 'cat/bomb.png', data: bomb, method: 8, size: 1_000_000 }]),
    );
    expect(report.rejected).toMatchObject([{ entry: 'cat/bomb.png', reason: 'entry_corrupt' }]);
    expect(process.resourceUsage().maxRSS - before).toBeLessThan(200 * 1024);
  });
});

/** So many MiB of zeros, packed. */
async function deflated(megabytes: number): Promise<Buffer> {
  const zeros = Buffer.alloc(1024 * 1024);
  return buffer(Readable.from(Array(megabytes).fill(zeros)).pipe(createDeflateRaw()));
}
