import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { encodeInferRequest } from '../../src/formats/open-inference-binary.js';
import { callLimits } from '../../src/providers/call-limits.js';
import { type CallLimits, cutIntoCalls, largestImageBytes, promptEvaluationsOf } from '../../src/providers/calls.js';

const counts = {
  prompts: fc.integer({ min: 1, max: 60 }),
  promptsPerRequest: fc.integer({ min: 1, max: 70 }),
  imagesPerRequest: fc.integer({ min: 1, max: 220 }),
};
const imageSizes = fc.array(fc.oneof(fc.integer({ min: 0, max: 100 }), fc.integer({ min: 0, max: 50_000 })), {
  maxLength: 120,
});

/** Limits of every kind that leave room for each image alone. */
const limited = fc
  .record({
    ...counts,
    sizes: imageSizes,
    queries: fc.option(fc.integer({ min: 1, max: 3000 })),
    perPrompt: fc.integer({ min: 0, max: 5000 }),
    room: fc.integer({ min: 0, max: 400_000 }),
  })
  .map(({ prompts, sizes, queries, perPrompt, room, ...limits }) => {
    const perRequest = Math.max(0, ...sizes) + 64 + perPrompt + room;
    const bytes = { perRequest, perPrompt };
    return { prompts, sizes, limits: { ...limits, imageQueriesPerRequest: queries ?? undefined, bytes } };
  });

function bytesOf(sizes: number[], prompts: number, { bytes }: CallLimits): number {
  return sizes.reduce((sum, size) => sum + size + 64, prompts * (bytes?.perPrompt ?? 0));
}

describe('cutIntoCalls', () => {
  it('covers every pair of prompt and image exactly once, within all limits, numbered through', () => {
    fc.assert(
      fc.property(limited, ({ prompts, sizes, limits }) => {
        const calls = cutIntoCalls(prompts, sizes, limits, 7);
        const seen = new Uint8Array(prompts * sizes.length);
        for (const call of calls) {
          const carried = sizes.slice(call.firstImage, call.firstImage + call.imageCount);
          expect(Math.min(call.promptCount, carried.length)).toBeGreaterThan(0);
          expect(call.promptCount).toBeLessThanOrEqual(limits.promptsPerRequest);
          expect(call.imageCount).toBeLessThanOrEqual(limits.imagesPerRequest);
          expect(call.promptCount * call.imageCount).toBeLessThanOrEqual(limits.imageQueriesPerRequest ?? Infinity);
          expect(bytesOf(carried, call.promptCount, limits)).toBeLessThanOrEqual(limits.bytes.perRequest);
          for (let p = call.firstPrompt; p < call.firstPrompt + call.promptCount; p++) {
            for (let i = call.firstImage; i < call.firstImage + call.imageCount; i++) seen[p * sizes.length + i]++;
          }
        }
        expect(seen.every((count) => count === 1)).toBe(true);
        expect(calls.map((call) => call.chunk)).toEqual(calls.map((_, index) => index + 7));
        expect(cutIntoCalls(prompts, sizes, structuredClone(limits), 7)).toEqual(calls);
      }),
    );
  });

  it('makes as few calls as any grid of prompts and images could', () => {
    fc.assert(
      fc.property(limited, ({ prompts, sizes, limits }) => {
        let fewest = Number.POSITIVE_INFINITY;
        for (let width = 1; width <= Math.min(prompts, limits.promptsPerRequest); width++) {
          const runs = greedyRuns(sizes, width, limits);
          fewest = Math.min(fewest, Math.ceil(prompts / width) * runs);
        }
        expect(cutIntoCalls(prompts, sizes, limits)).toHaveLength(fewest);
      }),
    );
  });

  it('cuts by counts alone, into equal parts, where nothing else binds', () => {
    fc.assert(
      fc.property(
        fc.record({ ...counts, images: fc.integer({ min: 0, max: 200 }) }),
        ({ prompts, images, ...limits }) => {
          const roomy = { ...limits, imageQueriesPerRequest: 70 * 220, bytes: { perRequest: 1e9, perPrompt: 1000 } };
          const sizes = Array.from({ length: images }, (_, i) => 1000 * i);
          const calls = cutIntoCalls(prompts, sizes, roomy);
          expect(calls).toEqual(byCounts(prompts, images, limits));
          expect(cutIntoCalls(prompts, sizes, limits)).toEqual(calls);
        },
      ),
    );
  });

  it('charges each prompt evaluation once, however the images are cut', () => {
    fc.assert(
      fc.property(limited, ({ prompts, sizes, limits }) => {
        fc.pre(sizes.length > 0);
        const charged = cutIntoCalls(prompts, sizes, limits).reduce((sum, call) => sum + promptEvaluationsOf(call), 0);
        expect(charged).toBe(prompts);
      }),
    );
  });

  it('accepts the largest image that it says fits, and none larger', () => {
    const limits = { promptsPerRequest: 5, imagesPerRequest: 5, bytes: { perRequest: 10_000, perPrompt: 1000 } };
    const largest = largestImageBytes(limits);
    expect(cutIntoCalls(3, [10, largest], limits)).toHaveLength(6);
    expect(() => cutIntoCalls(3, [10, largest + 1], limits)).toThrow(RangeError);
  });
});

describe('the bodies of the calls', () => {
  it('have no more bytes than the provider takes, whether images go as bytes or as references', () => {
    const question = fc.record({
      // No file of an image is smaller.
      sizes: fc.array(fc.oneof(fc.integer({ min: 30, max: 80 }), fc.integer({ min: 30, max: 4000 })), {
        minLength: 1,
        maxLength: 200,
      }),
      prompts: fc.integer({ min: 1, max: 12 }),
      classNames: fc.array(fc.string({ unit: 'grapheme', minLength: 1, maxLength: 30 }), {
        minLength: 2,
        maxLength: 20,
      }),
      maxRequestBytes: fc.integer({ min: 12_000, max: 40_000 }),
    });
    fc.assert(
      fc.property(question, ({ sizes, prompts, classNames, maxRequestBytes }) => {
        const provider = providerWith({ maxRequestBytes });
        const limits = callLimits(provider, { classNames }, null);
        fc.pre(Math.max(...sizes) <= largestImageBytes(limits));
        for (const call of cutIntoCalls(prompts, sizes, limits)) {
          const carried = sizes.slice(call.firstImage, call.firstImage + call.imageCount);
          for (const images of [
            carried.map((size) => new Uint8Array(size)),
            carried.map(() => new Uint8Array('sha256:'.length + 64)),
          ]) {
            const { body } = encodeInferRequest({
              parameters: { binary_data_output: true },
              inputs: [
                { name: 'x'.repeat(128), datatype: 'BYTES', shape: [images.length], data: images },
                {
                  name: 'y'.repeat(128),
                  datatype: 'BYTES',
                  shape: [classNames.length],
                  data: classNames.map((name) => new TextEncoder().encode(name)),
                },
                {
                  name: 'z'.repeat(128),
                  datatype: 'FP32',
                  shape: [call.promptCount, 4, 16],
                  data: new Float32Array(call.promptCount * 64),
                },
              ],
              outputs: [{ name: 'w'.repeat(128), parameters: { binary_data: true } }],
            });
            expect(body.byteLength).toBeLessThanOrEqual(maxRequestBytes);
          }
        }
      }),
    );
  });
});

function providerWith(limits: { maxRequestBytes: number }) {
  return {
    name: 'box',
    limits: {
      requestsPerSecond: null,
      concurrency: 1,
      imagesPerRequest: 100,
      promptsPerRequest: 100,
      timeoutMs: 1000,
      ...limits,
    },
    capabilities: {
      promptSpace: 'soft' as const,
      contextTokens: 4,
      contextWidth: 16,
      initialContext: null,
      defaultTemplate: '{}',
      maxImagesPerRequest: null,
      maxPromptsPerRequest: null,
      maxClassesPerRequest: null,
      maxTextsPerRequest: null,
      maxLogitsPerRequest: null,
      maxRequestBytes: null,
      returns: 'logits' as const,
      imageReferences: true,
      idempotency: null,
    },
  };
}

/** Fills each request with as many images as it takes, which makes the fewest runs. Infinity where one does not fit. */
function greedyRuns(sizes: number[], width: number, limits: CallLimits): number {
  const most = Math.min(limits.imagesPerRequest, Math.floor((limits.imageQueriesPerRequest ?? Infinity) / width));
  const perRequest = limits.bytes?.perRequest ?? Infinity;
  let runs = 0;
  for (let first = 0; first < sizes.length; runs++) {
    let count = 0;
    while (
      count < most &&
      first + count < sizes.length &&
      bytesOf(sizes.slice(first, first + count + 1), width, limits) <= perRequest
    ) {
      count++;
    }
    if (count === 0) return Infinity;
    first += count;
  }
  return runs;
}

/** The cut as it is where only counts are limited. */
function byCounts(prompts: number, images: number, limits: { promptsPerRequest: number; imagesPerRequest: number }) {
  const parts = (total: number, largest: number) => {
    const count = Math.ceil(total / largest);
    return Array.from({ length: count }, (_, part) => {
      const first = Math.floor((total * part) / count);
      return { first, count: Math.floor((total * (part + 1)) / count) - first };
    });
  };
  return parts(prompts, limits.promptsPerRequest)
    .flatMap((p) => parts(images, limits.imagesPerRequest).map((i) => [p, i]))
    .map(([p, i], chunk) => ({
      chunk,
      firstPrompt: p.first,
      promptCount: p.count,
      firstImage: i.first,
      imageCount: i.count,
    }));
}
