import { createHash } from 'node:crypto';
import sharp from 'sharp';
import { describe, expect, it } from 'vitest';
import { Random } from '../../../src/craft/random.js';
import type { ProviderImage } from '../../../src/providers/provider.js';
import { ImageViews } from '../../../src/views/image-views.js';

/** Noise, which no format compresses without losses. */
async function noise(format: 'png' | 'jpeg'): Promise<ProviderImage> {
  const random = Random.stream(3, 'noise');
  const pixels = Buffer.from(Array.from({ length: 48 * 48 * 3 }, () => Math.floor(256 * random.uniform())));
  const image = sharp(pixels, { raw: { width: 48, height: 48, channels: 3 } });
  const bytes = await (format === 'png' ? image.png() : image.jpeg({ quality: 40 })).toBuffer();
  return { sha256: createHash('sha256').update(bytes).digest('hex'), size: bytes.length, bytes: async () => bytes };
}

describe('a view that would be larger than a request', () => {
  it.each(['png', 'jpeg'] as const)('of a %s is compressed until it fits, the same each time', async (format) => {
    const image = await noise(format);
    const free = await new ImageViews().view(image, 1);
    const most = Math.floor(free.size * 0.6);
    const [one, other] = await Promise.all([1, 2].map(() => new ImageViews().view(image, 1, 'identity', most)));
    expect(one.size).toBeLessThanOrEqual(most);
    expect((await one.bytes()).length).toBe(one.size);
    expect(other.sha256).toBe(one.sha256);
    const { width, height } = await sharp(await one.bytes()).metadata();
    expect([width, height]).toEqual([48, 48]);
  });

  it('stays as it is where it fits', async () => {
    const image = await noise('png');
    const [free, bound] = await Promise.all([
      new ImageViews().view(image, 2),
      new ImageViews().view(image, 2, 'identity', image.size * 2),
    ]);
    expect(bound.sha256).toBe(free.sha256);
  });

  it('is no JPEG where it has more pixels on a side than one can have', async () => {
    const wide = { width: 60_000, height: 4, channels: 3, background: '#204060' } as const;
    const bytes = await sharp({ create: wide }).jpeg().toBuffer();
    const image = {
      sha256: createHash('sha256').update(bytes).digest('hex'),
      size: bytes.length,
      bytes: async () => bytes,
    };
    for (const most of [undefined, 100]) {
      const view = await new ImageViews().view(image, 0, 'zoom_out', most);
      expect(await sharp(await view.bytes()).metadata()).toMatchObject({ format: 'png', width: 75_000 });
    }
  });
});
