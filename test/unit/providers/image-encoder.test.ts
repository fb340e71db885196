import { createHash } from 'node:crypto';
import sharp from 'sharp';
import { describe, expect, it } from 'vitest';
import { ImageEncoder, scaled } from '../../../src/providers/image-encoder.js';
import type { ProviderImage } from '../../../src/providers/provider.js';

type Format = 'png' | 'jpeg' | 'webp' | 'gif';
const RED = { r: 255, g: 0, b: 0 };
const SMALL = { width: 4, height: 2, fit: 'fill', kernel: 'lanczos3' } as const;

/** @param background with alpha where it is to be transparent */
async function file(width: number, height: number, format: Format = 'png', background: object = RED): Promise<Buffer> {
  const channels = 'alpha' in background ? 4 : 3;
  return sharp({ create: { width, height, channels, background } }).toFormat(format).toBuffer();
}

function imageOf(bytes: Buffer) {
  const image = {
    sha256: createHash('sha256').update(bytes).digest('hex'),
    size: bytes.length,
    reads: 0,
    async bytes() {
      image.reads++;
      return bytes;
    },
  };
  return image satisfies ProviderImage;
}

describe('an image that is sent as it is', () => {
  it.each([
    ['png', 'image/png'],
    ['jpeg', 'image/jpeg'],
    ['webp', 'image/webp'],
    ['gif', 'image/gif'],
  ] as const)('of format %s has the media type %s', async (format, mediaType) => {
    const bytes = await file(3, 3, format);
    const image = imageOf(bytes);
    const encoder = new ImageEncoder(undefined);
    expect(await encoder.encoded(image)).toBe(bytes);
    expect(await encoder.base64(image)).toBe(bytes.toString('base64'));
    expect(await encoder.dataUri(image)).toBe(`data:${mediaType};base64,${bytes.toString('base64')}`);
    expect(await encoder.encodedSha256(image)).toBe(image.sha256);
  });
});

describe('an image that is scaled', () => {
  it('is a PNG file of the size, made once however often and however many ask for it', async () => {
    const image = imageOf(await file(40, 30, 'jpeg'));
    const encoder = new ImageEncoder(SMALL);
    const all = await Promise.all(Array.from({ length: 5 }, () => encoder.encoded(image)));
    expect(image.reads).toBe(1);
    expect(new Set(all).size).toBe(1);
    expect(await sharp(all[0]).metadata()).toMatchObject({ format: 'png', width: 4, height: 2, channels: 3 });
    expect(await encoder.encodedSha256(image)).toBe(createHash('sha256').update(all[0]).digest('hex'));
    expect(await encoder.dataUri(image)).toMatch(/^data:image\/png;base64,/);
    expect(image.reads).toBe(1);
  });

  it('is made of a JPEG that its decoder only warns of', async () => {
    const whole = await sharp({ create: { width: 8, height: 8, channels: 3, background: '#204060' } })
      .jpeg()
      .toBuffer();
    const scan = whole.indexOf(Buffer.from([0xff, 0xda]));
    const warned = Buffer.concat([whole.subarray(0, scan), Buffer.from([0, 1, 2, 3]), whole.subarray(scan)]);
    await expect(sharp(warned).raw().toBuffer()).rejects.toThrow(/extraneous bytes/);
    const size = { width: 4, height: 4, fit: 'fill', kernel: 'cubic' } as const;
    const [one, other] = await Promise.all([warned, whole].map((bytes) => scaled(bytes, size).raw().toBuffer()));
    expect(one).toEqual(other);
  });

  it('is tried again after it could not be read', async () => {
    const good = await file(8, 8);
    let broken = true;
    const image: ProviderImage = {
      sha256: '00',
      size: good.length,
      bytes: async () => {
        if (broken) throw new Error('the disk is away');
        return good;
      },
    };
    const encoder = new ImageEncoder(SMALL);
    await expect(encoder.encoded(image)).rejects.toThrow('the disk is away');
    broken = false;
    expect((await sharp(await encoder.encoded(image)).metadata()).width).toBe(4);
  });

  it.each([
    ['fill', 40, 10, 20, 20],
    ['cover', 40, 10, 20, 20],
    ['contain', 40, 10, 20, 20],
    ['inside', 40, 10, 20, 5],
    ['inside', 8, 4, 8, 4],
  ] as const)('with %s of %i × %i becomes %s × %s', async (fit, width, height, toWidth, toHeight) => {
    const size = { width: 20, height: 20, fit, kernel: 'cubic' } as const;
    const { info } = await scaled(await file(width, height), size)
      .raw()
      .toBuffer({ resolveWithObject: true });
    expect(info).toMatchObject({ width: toWidth, height: toHeight, channels: 3 });
  });

  it('stands as its EXIF orientation says', async () => {
    // Left half red, right half blue, to be turned by a quarter to the right.
    const blue = await file(8, 16, 'png', { r: 0, g: 0, b: 255 });
    const turned = await sharp(await file(16, 16))
      .composite([{ input: blue, left: 8, top: 0 }])
      .withMetadata({ orientation: 6 })
      .jpeg({ quality: 100 })
      .toBuffer();
    const pixels = await scaled(turned, { width: 2, height: 2, fit: 'fill', kernel: 'linear' }).raw().toBuffer();
    const isRed = [0, 3, 6, 9].map((at) => pixels[at] > pixels[at + 2]);
    expect(isRed).toEqual([true, true, false, false]);
  });

  it('has white where it is transparent, and around what does not fill it', async () => {
    const transparent = await file(4, 4, 'png', { r: 0, g: 0, b: 0, alpha: 0 });
    const pixels = await scaled(transparent, { ...SMALL, fit: 'fill' })
      .raw()
      .toBuffer();
    expect(pixels.every((value) => value === 255)).toBe(true);
    const wide = await scaled(await file(40, 4), { width: 8, height: 8, fit: 'contain', kernel: 'linear' })
      .raw()
      .toBuffer();
    expect([...wide.subarray(0, 3)]).toEqual([255, 255, 255]);
  });

  it('of grey has three channels', async () => {
    const grey = await sharp(await file(6, 6))
      .greyscale()
      .png()
      .toBuffer();
    const { info } = await scaled(grey, SMALL).raw().toBuffer({ resolveWithObject: true });
    expect(info.channels).toBe(3);
  });
});

describe('what is kept of images', () => {
  it('is bounded for all providers together: of the one that keeps most it is let go', async () => {
    const bytes = Buffer.alloc(40 * 1024 * 1024);
    const encoders = Array.from({ length: 5 }, () => new ImageEncoder(undefined));
    const images = encoders.map((_, index) => imageOf(index === 2 ? Buffer.alloc(bytes.length + 3) : bytes));
    for (const [index, encoder] of encoders.entries()) await encoder.base64(images[index]);
    // Whoever made the fifth one has not been told yet when that is counted.
    await new Promise(setImmediate);
    for (const [index, encoder] of encoders.entries()) if (index !== 2) await encoder.base64(images[index]);
    expect(images.map(({ reads }) => reads)).toEqual([1, 1, 1, 1, 1]);
    await encoders[2].base64(images[2]);
    expect(images[2].reads).toBe(2);
    for (const encoder of encoders) encoder.clear();
    await encoders[0].base64(images[0]);
    expect(images[0].reads).toBe(2);
    encoders[0].clear();
  });
});
