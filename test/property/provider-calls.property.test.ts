import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { cutIntoCalls, promptEvaluationsOf } from '../../src/providers/calls.js';

const sizes = fc.record({
  prompts: fc.integer({ min: 1, max: 60 }),
  images: fc.integer({ min: 0, max: 200 }),
  promptsPerRequest: fc.integer({ min: 1, max: 70 }),
  imagesPerRequest: fc.integer({ min: 1, max: 220 }),
});

describe('cutIntoCalls', () => {
  it('covers every pair of prompt and image exactly once, within the limits, numbered through', () => {
    fc.assert(
      fc.property(sizes, ({ prompts, images, ...limits }) => {
        const calls = cutIntoCalls(prompts, images, limits, 7);
        const seen = new Uint8Array(prompts * images);
        for (const call of calls) {
          expect(call.promptCount).toBeLessThanOrEqual(limits.promptsPerRequest);
          expect(call.imageCount).toBeLessThanOrEqual(limits.imagesPerRequest);
          for (let p = call.firstPrompt; p < call.firstPrompt + call.promptCount; p++) {
            for (let i = call.firstImage; i < call.firstImage + call.imageCount; i++) seen[p * images + i]++;
          }
        }
        expect(seen.every((count) => count === 1)).toBe(true);
        expect(calls.map((call) => call.chunk)).toEqual(calls.map((_, index) => index + 7));
        const minimum = Math.ceil(prompts / limits.promptsPerRequest) * Math.ceil(images / limits.imagesPerRequest);
        expect(calls).toHaveLength(minimum);
      }),
    );
  });

  it('charges each prompt evaluation once, however the images are cut', () => {
    fc.assert(
      fc.property(sizes, ({ prompts, images, ...limits }) => {
        fc.pre(images > 0);
        const charged = cutIntoCalls(prompts, images, limits).reduce((sum, call) => sum + promptEvaluationsOf(call), 0);
        expect(charged).toBe(prompts);
      }),
    );
  });
});
