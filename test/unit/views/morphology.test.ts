import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Random } from '../../../src/craft/random.js';
import { extremes, type Pixels } from '../../../src/views/morphology.js';

function noise(width: number, height: number, channels: number): Pixels {
  const random = Random.stream(width * 1000 + height, 'noise');
  const data = Buffer.from(Array.from({ length: width * height * channels }, () => random.integer(256)));
  return { data, width, height, channels };
}

/** One value after another. */
function plainExtremes({ data, width, height, channels }: Pixels, reach: number, which: 'largest' | 'smallest') {
  const pick = which === 'largest' ? Math.max : Math.min;
  return Buffer.from(data).map((_, at) => {
    const [x, y, channel] = [Math.floor(at / channels) % width, Math.floor(at / channels / width), at % channels];
    let value = data[at];
    for (let v = Math.max(0, y - reach); v <= Math.min(height - 1, y + reach); v++) {
      for (let u = Math.max(0, x - reach); u <= Math.min(width - 1, x + reach); u++) {
        value = pick(value, data[(v * width + u) * channels + channel]);
      }
    }
    return value;
  });
}

describe('extremes', () => {
  it('are those of a square around every pixel, of each channel', async () => {
    const side = fc.integer({ min: 1, max: 23 });
    await fc.assert(
      fc.asyncProperty(
        side,
        side,
        fc.constantFrom(1, 3),
        fc.integer({ min: 1, max: 12 }),
        fc.constantFrom('largest' as const, 'smallest' as const),
        async (width, height, channels, reach, which) => {
          const pixels = noise(width, height, channels);
          const expected = plainExtremes(pixels, reach, which);
          expect((await extremes(pixels, reach, which)).equals(expected)).toBe(true);
        },
      ),
    );
  });

  it('of a large image leave others their turn', async () => {
    const pixels = { data: Buffer.alloc(2000 * 1500 * 3, 7), width: 2000, height: 1500, channels: 3 };
    let others = 0;
    const timer = setInterval(() => others++, 0);
    const result = await extremes(pixels, 23, 'smallest');
    clearInterval(timer);
    expect(others).toBeGreaterThan(10);
    expect(result.every((value) => value === 7)).toBe(true);
  });
});
