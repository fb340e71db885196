import { createHash } from 'node:crypto';
import sharp from 'sharp';
import { describe, expect, it } from 'vitest';
import { Random } from '../../../src/craft/random.js';
import { ImageViews } from '../../../src/views/image-views.js';
import { PREDICTION_QUERIES, QUERIED } from '../../../src/views/transforms.js';
import { nthView } from '../../../src/views/view-order.js';

describe('nthView', () => {
  it('leaves no view out where nothing is mirrored, and the mirror image where something is', () => {
    expect([0, 1, 2, 3].map((n) => nthView(n, ['identity', 'blur']))).toEqual([0, 1, 2, 3]);
    expect([0, 1, 2, 3].map((n) => nthView(n, ['identity', 'mirror']))).toEqual([0, 2, 3, 4]);
  });

  it.each(PREDICTION_QUERIES)('asks about no pixels twice with %i prediction queries', async (queries) => {
    const random = Random.stream(1, 'view order');
    const size = { width: 160, height: 120 };
    const pixels = Uint8Array.from({ length: size.width * size.height * 3 }, () => 256 * random.uniform());
    const bytes = await sharp(pixels, { raw: { ...size, channels: 3 } })
      .png()
      .toBuffer();
    const source = {
      sha256: createHash('sha256').update(bytes).digest('hex'),
      size: bytes.length,
      bytes: async () => bytes,
    };
    const views = new ImageViews();
    const asked: string[] = [];
    for (let n = 0; n < 4; n++) {
      for (const transform of QUERIED[queries]) {
        asked.push((await views.view(source, nthView(n, QUERIED[queries]), transform)).sha256);
      }
    }
    expect(new Set(asked).size).toBe(asked.length);
  });
});
