import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { encodeInferRequest, type Tensor } from '../../src/formats/open-inference-binary.js';
import { type Question, questionOf } from '../../src/providers/ask.js';
import { callLimits } from '../../src/providers/call-limits.js';
import {
  type CallLimits,
  classIndicesOf,
  countCalls,
  cutIntoCalls,
  largestImageBytes,
  promptEvaluationsOf,
} from '../../src/providers/calls.js';
import type { ClassTexts, Prompts, ProviderCapabilities } from '../../src/providers/provider.js';
import { templateAndLabels } from '../../src/providers/texts.js';

const counts = {
  prompts: fc.integer({ min: 1, max: 60 }),
  promptsPerRequest: fc.integer({ min: 1, max: 70 }),
  imagesPerRequest: fc.integer({ min: 1, max: 220 }),
};
const imageSizes = fc.array(fc.oneof(fc.integer({ min: 0, max: 100 }), fc.integer({ min: 0, max: 50_000 })), {
  maxLength: 120,
});

/** Rounds of classes; with an anchor they have room for it and for one class more. */
const rounds = fc
  .record({ classesPerRequest: fc.integer({ min: 1, max: 50 }), anchored: fc.boolean() })
  .map(({ classesPerRequest, anchored }) =>
    anchored ? { classesPerRequest: classesPerRequest + 1, anchored } : { classesPerRequest },
  );

/** Limits of every kind that leave room for each image alone. */
const limited = fc
  .record({
    ...counts,
    classes: fc.integer({ min: 1, max: 60 }),
    rounds: fc.option(rounds),
    sizes: imageSizes,
    queries: fc.option(fc.integer({ min: 1, max: 3000 })),
    perPrompt: fc.integer({ min: 0, max: 5000 }),
    room: fc.integer({ min: 0, max: 400_000 }),
  })
  .map(({ prompts, classes, rounds, sizes, queries, perPrompt, room, ...counts }) => {
    const perRequest = Math.max(0, ...sizes) + 64 + perPrompt + room;
    const bytes = { perRequest, perPrompt };
    const limits: CallLimits = { ...counts, ...rounds, imageQueriesPerRequest: queries ?? undefined, bytes };
    return { prompts, sizes, classes, limits };
  });

function bytesOf(sizes: number[], prompts: number, { bytes }: CallLimits): number {
  return sizes.reduce((sum, size) => sum + size + 64, prompts * (bytes?.perPrompt ?? 0));
}

describe('cutIntoCalls', () => {
  it('covers every prompt, image and class exactly once, within all limits, numbered through', () => {
    fc.assert(
      fc.property(limited, ({ prompts, sizes, classes, limits }) => {
        const calls = cutIntoCalls(prompts, sizes, classes, limits, 7);
        const seen = new Uint8Array(prompts * sizes.length * classes);
        for (const call of calls) {
          const carried = sizes.slice(call.firstImage, call.firstImage + call.imageCount);
          expect(Math.min(call.promptCount, carried.length, call.classCount)).toBeGreaterThan(0);
          expect(call.promptCount).toBeLessThanOrEqual(limits.promptsPerRequest);
          expect(call.imageCount).toBeLessThanOrEqual(limits.imagesPerRequest);
          expect(call.promptCount * call.imageCount).toBeLessThanOrEqual(limits.imageQueriesPerRequest ?? Infinity);
          expect(bytesOf(carried, call.promptCount, limits)).toBeLessThanOrEqual(limits.bytes!.perRequest);
          expect(classIndicesOf(call).length).toBeLessThanOrEqual(limits.classesPerRequest ?? Infinity);
          for (let p = call.firstPrompt; p < call.firstPrompt + call.promptCount; p++) {
            for (let i = call.firstImage; i < call.firstImage + call.imageCount; i++) {
              for (let c = call.firstClass; c < call.firstClass + call.classCount; c++) {
                seen[(p * sizes.length + i) * classes + c]++;
              }
            }
          }
        }
        expect(seen.every((count) => count === 1)).toBe(true);
        expect(calls.map((call) => call.chunk)).toEqual(calls.map((_, index) => index + 7));
        expect(cutIntoCalls(prompts, sizes, classes, structuredClone(limits), 7)).toEqual(calls);
        expect(countCalls(prompts, sizes, classes, limits)).toBe(calls.length);
      }),
    );
  });

  it('asks about class 0 in every round where rounds are compared by it, and once where they are not', () => {
    fc.assert(
      fc.property(limited, ({ prompts, sizes, classes, limits }) => {
        for (const call of cutIntoCalls(prompts, sizes, classes, limits)) {
          expect(call.anchored).toBe(limits.anchored === true && call.firstClass > 0);
          const named = classIndicesOf(call);
          expect(new Set(named).size).toBe(named.length);
          expect(named.includes(0)).toBe(call.firstClass === 0 || call.anchored);
          expect(named.slice(call.anchored ? 1 : 0)).toEqual(
            Array.from({ length: call.classCount }, (_, i) => call.firstClass + i),
          );
        }
      }),
    );
  });

  it('makes no more rounds of classes than their limit demands, of nearly equal size', () => {
    fc.assert(
      fc.property(limited, ({ prompts, sizes, classes, limits }) => {
        fc.pre(sizes.length > 0);
        const { classesPerRequest = classes, anchored } = limits;
        const groups = new Map<number, number>();
        for (const call of cutIntoCalls(prompts, sizes, classes, limits)) groups.set(call.firstClass, call.classCount);
        const fewest =
          classes <= classesPerRequest
            ? 1
            : Math.ceil(anchored ? (classes - 1) / (classesPerRequest - 1) : classes / classesPerRequest);
        expect(groups.size).toBe(fewest);
        // What is asked beside the anchor.
        const own = [...groups].map(([first, count]) => (anchored && first === 0 ? count - 1 : count));
        expect(Math.max(...own) - Math.min(...own)).toBeLessThanOrEqual(1);
      }),
    );
  });

  it('embeds every text of every prompt once, whatever the images', () => {
    fc.assert(
      fc.property(limited, ({ prompts, sizes, classes, limits }) => {
        const embedding = { ...limits, anchored: undefined, embedsTexts: true };
        const calls = cutIntoCalls(prompts, sizes, classes, embedding);
        expect(cutIntoCalls(prompts, [], classes, embedding)).toEqual(calls);
        const seen = new Uint8Array(prompts * classes);
        for (const call of calls) {
          expect(call).toMatchObject({ firstImage: 0, imageCount: 0, anchored: false });
          for (let p = call.firstPrompt; p < call.firstPrompt + call.promptCount; p++) {
            for (let c = call.firstClass; c < call.firstClass + call.classCount; c++) seen[p * classes + c]++;
          }
        }
        expect(seen.every((count) => count === 1)).toBe(true);
        expect(calls.reduce((sum, call) => sum + promptEvaluationsOf(call), 0)).toBe(prompts);
      }),
    );
  });

  it('makes as few calls as any grid of prompts and images could', () => {
    fc.assert(
      fc.property(limited, ({ prompts, sizes, classes, limits: { classesPerRequest: _, anchored: __, ...limits } }) => {
        let fewest = Number.POSITIVE_INFINITY;
        for (let width = 1; width <= Math.min(prompts, limits.promptsPerRequest); width++) {
          const runs = greedyRuns(sizes, width, limits);
          fewest = Math.min(fewest, Math.ceil(prompts / width) * runs);
        }
        expect(cutIntoCalls(prompts, sizes, classes, limits)).toHaveLength(fewest);
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
          const calls = cutIntoCalls(prompts, sizes, 3, roomy);
          expect(calls).toEqual(byCounts(prompts, images, 3, limits));
          expect(cutIntoCalls(prompts, sizes, 3, limits)).toEqual(calls);
        },
      ),
    );
  });

  it('charges each prompt evaluation once, however images and classes are cut', () => {
    fc.assert(
      fc.property(limited, ({ prompts, sizes, classes, limits }) => {
        fc.pre(sizes.length > 0);
        const calls = cutIntoCalls(prompts, sizes, classes, limits);
        const charged = calls.reduce((sum, call) => sum + promptEvaluationsOf(call), 0);
        expect(charged).toBe(prompts);
      }),
    );
  });

  it('accepts the largest image that it says fits, and none larger', () => {
    const limits = { promptsPerRequest: 5, imagesPerRequest: 5, bytes: { perRequest: 10_000, perPrompt: 1000 } };
    const largest = largestImageBytes(limits);
    expect(cutIntoCalls(3, [10, largest], 4, limits)).toHaveLength(6);
    expect(() => cutIntoCalls(3, [10, largest + 1], 4, limits)).toThrow(RangeError);
  });
});

describe('the bodies of the calls', () => {
  const question = fc.record({
    // No file of an image is smaller.
    sizes: fc.array(fc.oneof(fc.integer({ min: 30, max: 80 }), fc.integer({ min: 30, max: 4000 })), {
      minLength: 1,
      maxLength: 200,
    }),
    prompts: fc.integer({ min: 1, max: 12 }),
    names: fc.array(fc.string({ unit: 'grapheme', minLength: 1, maxLength: 30 }), { minLength: 2, maxLength: 20 }),
    described: fc.boolean(),
    words: fc.option(fc.string({ unit: 'grapheme', maxLength: 300 })),
    maxClassesPerRequest: fc.option(fc.integer({ min: 1, max: 20 })),
    maxRequestBytes: fc.integer({ min: 60_000, max: 200_000 }),
  });

  it('have no more bytes than the provider takes, whether images go as bytes or as references', () => {
    fc.assert(
      fc.property(question, ({ sizes, prompts, names, described, words, maxClassesPerRequest, maxRequestBytes }) => {
        const classes: ClassTexts = { names, ...(described ? { descriptions: names.map((name) => `${name}!`) } : {}) };
        const template = words === null ? null : `${words} {}${described ? ', {description}' : ''}`;
        const asked: Prompts =
          template === null
            ? { kind: 'context', count: prompts, values: new Float32Array(prompts * 64) }
            : { kind: 'template', count: prompts, templates: new Array(prompts).fill(template) };
        const provider = providerWith({ maxRequestBytes }, { maxClassesPerRequest });
        const space = template === null ? 'soft' : 'text';
        const limits = callLimits(provider, { space, classes, templateBytes: Buffer.byteLength(template ?? '') }, null);
        // As large as can be, and some that are no larger.
        const largest = largestImageBytes(limits);
        const fitting = [largest, ...sizes.filter((size) => size <= largest)];
        for (const call of cutIntoCalls(prompts, fitting, names.length, limits)) {
          const carried = fitting.slice(call.firstImage, call.firstImage + call.imageCount);
          const part = questionOf(call, { prompts: asked, images: [], classes });
          for (const images of [
            carried.map((size) => new Uint8Array(size)),
            carried.map(() => new Uint8Array('sha256:'.length + 64)),
          ]) {
            expect(bodyOf(images, part).byteLength).toBeLessThanOrEqual(maxRequestBytes);
          }
        }
      }),
    );
  });
});

/** A body as Open Inference has them, with the longest names that tensors may have. */
function bodyOf(images: Uint8Array[], { prompts, classes }: Question): Uint8Array {
  const texts = (name: string, values: string[]): Tensor => ({
    name: name.repeat(128),
    datatype: 'BYTES',
    shape: [values.length],
    data: values.map((value) => new TextEncoder().encode(value)),
  });
  const { template, labels } =
    prompts.kind === 'template'
      ? templateAndLabels(prompts.templates[0], classes)
      : { template: '', labels: classes.names };
  const prompt: Tensor =
    prompts.kind === 'template'
      ? texts('z', [template, ...prompts.templates.slice(1)])
      : { name: 'z'.repeat(128), datatype: 'FP32', shape: [prompts.count, 4, 16], data: prompts.values };
  return encodeInferRequest({
    parameters: { binary_data_output: true },
    inputs: [
      { name: 'x'.repeat(128), datatype: 'BYTES', shape: [images.length], data: images },
      texts('y', labels),
      prompt,
    ],
    outputs: [{ name: 'w'.repeat(128), parameters: { binary_data: true } }],
  }).body;
}

function providerWith(limits: { maxRequestBytes: number }, stated: Partial<ProviderCapabilities>) {
  return {
    name: 'box',
    limits: {
      requestsPerSecond: null,
      tokensPerSecond: null,
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
      ...stated,
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
function byCounts(
  prompts: number,
  images: number,
  classCount: number,
  limits: { promptsPerRequest: number; imagesPerRequest: number },
) {
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
      firstClass: 0,
      classCount,
      anchored: false,
    }));
}
