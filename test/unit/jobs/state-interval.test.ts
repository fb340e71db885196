import fc from 'fast-check';
import { expect, it } from 'vitest';
import { stateInterval } from '../../../src/jobs/state-interval.js';

it('saves a state now and then where answers are small, and after each generation where they are large', () => {
  expect(stateInterval(8, { prompts: 41, images: 352, classes: 22 })).toBe(8);
  expect(stateInterval(2, { prompts: 41, images: 352, classes: 22 })).toBe(2);
  expect(stateInterval(8, { prompts: 41, images: 1600, classes: 100 })).toBe(1);
});

it('keeps no more than 16 MiB of answers between two states, unless one generation is larger', () => {
  const count = fc.integer({ min: 1, max: 20_000 });
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 100 }), count, count, count, (most, prompts, images, classes) => {
      const interval = stateInterval(most, { prompts, images, classes });
      expect(Number.isInteger(interval)).toBe(true);
      expect(interval).toBeGreaterThanOrEqual(1);
      expect(interval).toBeLessThanOrEqual(most);
      const bytes = prompts * images * classes * 4;
      if (interval > 1) expect(interval * bytes).toBeLessThanOrEqual(16 * 1024 * 1024);
      if (interval < most) expect((interval + 1) * bytes).toBeGreaterThan(16 * 1024 * 1024);
    }),
  );
});
