import { createHash } from 'node:crypto';
import { describe, expect, test } from 'vitest';
import { checkImageBytes, decodeImageInput, decodeImageInputs, PixelCount } from '../../../src/datasets/image-input.js';
import { MAX_REQUEST_PIXELS } from '../../../src/datasets/limits.js';
import { dataUri, image } from '../../helpers/dataset-files.js';

const limits = { maxImageBytes: 5000, maxImagePixels: 10_000 };
const png = await image(1, 'png', 6, 5);

test.each(['png', 'jpeg', 'webp', 'gif'] as const)('a %s, as data URI, base64 and bytes', async (format) => {
  const bytes = await image(1, format, 6, 5);
  const expected = {
    bytes,
    sha256: createHash('sha256').update(bytes).digest('hex'),
    mediaType: `image/${format}`,
    width: 6,
    height: 5,
  };
  expect(await decodeImageInput(dataUri(bytes), limits, 'images.0')).toEqual(expected);
  expect(await decodeImageInput(dataUri(bytes, 'application/octet-stream'), limits, 'images.0')).toEqual(expected);
  expect(await decodeImageInput(bytes.toString('base64'), limits, 'images.0')).toEqual(expected);
  expect(await decodeImageInput(bytes.toString('base64').replace(/=+$/, ''), limits, 'images.0')).toEqual(expected);
  expect(await checkImageBytes(bytes, limits, 'images.0')).toEqual(expected);
});

const large = await image(1, 'png', 101, 100);

describe('refused', () => {
  test.each<[string, string, string, number?]>([
    ['an http URL', 'http://example.org/a.png', 'image_url_not_supported'],
    ['an https URL', ' HTTPS://example.org/a.png', 'image_url_not_supported'],
    ['a file URL', 'file:///etc/passwd', 'image_url_not_supported'],
    ['nothing', '', 'image_empty'],
    ['an empty data URI', 'data:image/png;base64,', 'image_empty'],
    ['a data URI without base64', 'data:image/png,abc', 'invalid_base64'],
    ['a data URI without end of its head', `data:${'x'.repeat(1000)}`, 'invalid_base64'],
    ['base64 with a wrong character', dataUri(png).replace('A', '*'), 'invalid_base64'],
    ['base64 with line breaks', dataUri(png).replace('A', 'A\n'), 'invalid_base64'],
    [
      'base64 with padding inside',
      `${png.toString('base64').slice(0, 8)}==${png.toString('base64').slice(8)}`,
      'invalid_base64',
    ],
    ['a text', Buffer.from('hello').toString('base64'), 'unsupported_image_format'],
    ['an SVG', dataUri(Buffer.from('<svg/>'), 'image/svg+xml'), 'unsupported_image_format'],
    ['a PNG cut short', dataUri(png.subarray(0, -20)), 'image_undecodable'],
    ['too many pixels', dataUri(large), 'image_too_many_pixels'],
    ['too many bytes', dataUri(Buffer.concat([png, Buffer.alloc(5000)])), 'image_too_large', 413],
    ['very many bytes', 'A'.repeat(40_000_000), 'image_too_large', 413],
  ])('%s', async (_, text, code, status = 400) => {
    const refusal = await decodeImageInput(text, limits, 'images.3').catch((error: unknown) => error);
    expect(refusal).toMatchObject({ status, code, param: 'images.3' });
  });

  test('very many wrong characters, without exhausting the stack', async () => {
    const text = `${'A'.repeat(40_000_000)}*`;
    const generous = { ...limits, maxImageBytes: 64 * 1024 * 1024 };
    await expect(decodeImageInput(text, generous, 'image')).rejects.toMatchObject({ code: 'invalid_base64' });
  });
});

describe('several images', () => {
  test('are answered in their order', async () => {
    const texts = await Promise.all(
      Array.from({ length: 11 }, async (_, i) => dataUri(await image(i, 'png', 4, 4 + i))),
    );
    const read = await decodeImageInputs(texts, limits);
    expect(read.map(({ height }) => height)).toEqual(texts.map((_, i) => 4 + i));
  });

  test('are refused by the position of the bad one', async () => {
    const texts = [...new Array<string>(6).fill(dataUri(png)), 'AAAA', dataUri(png)];
    await expect(decodeImageInputs(texts, limits)).rejects.toMatchObject({ param: 'images.6' });
  });

  test('may have so many pixels in all, and no more', () => {
    const pixels = new PixelCount();
    const half = { width: MAX_REQUEST_PIXELS / 2, height: 1 };
    pixels.add(half);
    pixels.add(half);
    expect(() => pixels.add({ width: 1, height: 1 })).toThrow(
      expect.objectContaining({ status: 413, code: 'too_many_pixels', param: 'images' }),
    );
  });
});
