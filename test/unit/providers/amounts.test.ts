import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  addAmounts,
  amountsOfCall,
  amountsOfImages,
  type CallTexts,
  costMicroUsd,
  mostTokens,
  NOTHING,
  type Pricing,
} from '../../../src/providers/amounts.js';
import { questionOf } from '../../../src/providers/ask.js';
import { type CallLimits, type CallRange, cutIntoCalls } from '../../../src/providers/calls.js';
import { renderTexts } from '../../../src/providers/texts.js';

const FREE = {
  perRequestNanoUsd: 0n,
  perImageQueryNanoUsd: 0n,
  perInputTokenPicoUsd: 0n,
  perOutputTokenPicoUsd: 0n,
};
const TOKENS = { perImage: 85, perRequest: 50, bytesPerToken: 4, outputPerRequest: 2 };
const TEXTS: CallTexts = { classes: { names: ['cat', 'dog', 'fox'] }, templateBytes: 10 };

function call(changes: Partial<CallRange> = {}): CallRange {
  return {
    chunk: 0,
    ...{ firstPrompt: 0, promptCount: 2, firstImage: 0, imageCount: 5, firstClass: 0, classCount: 3, anchored: false },
    ...changes,
  };
}

describe('the cost of calls', () => {
  it('is rounded up to whole micro-dollars, once for requests, image queries and tokens together', () => {
    expect(costMicroUsd(FREE, 7, 7)).toBe(0);
    expect(costMicroUsd({ ...FREE, perRequestNanoUsd: 1n }, 1, 0)).toBe(1);
    expect(costMicroUsd({ ...FREE, perRequestNanoUsd: 1000n }, 1, 0)).toBe(1);
    expect(costMicroUsd({ ...FREE, perImageQueryNanoUsd: 1001n }, 1, 1)).toBe(2);
    expect(costMicroUsd({ ...FREE, perInputTokenPicoUsd: 1n }, 0, 0, { inputTokens: 1, outputTokens: 9 })).toBe(1);
    const shared = { ...FREE, perRequestNanoUsd: 400n, perImageQueryNanoUsd: 100n, perOutputTokenPicoUsd: 100_000n };
    expect(costMicroUsd(shared, 1, 4, { inputTokens: 1000, outputTokens: 2 })).toBe(1);
  });

  it('is counted of very many calls without a look at every class for each of them', () => {
    let looks = 0;
    const names = new Proxy(
      Array.from({ length: 1000 }, (_, c) => `class ${c}`),
      {
        get(target, key, receiver) {
          looks++;
          return Reflect.get(target, key, receiver);
        },
      },
    );
    const texts: CallTexts = { classes: { names }, templateBytes: 10 };
    const calls = cutIntoCalls(1, new Array(500).fill(9), 1000, { promptsPerRequest: 1, imagesPerRequest: 1 });
    const costs = calls.map((one) => amountsOfCall({ prices: FREE, capabilities: { tokens: TOKENS } }, one, texts));
    expect(costs).toHaveLength(500);
    expect(looks).toBeLessThan(5000);
  });

  it('is exact where floating point is not', () => {
    const prices = { ...FREE, perInputTokenPicoUsd: 333_333n };
    expect(costMicroUsd(prices, 1, 0, { inputTokens: 9_007_199_254_740_991, outputTokens: 0 })).toBe(
      Number((9_007_199_254_740_991n * 333_333n + 999_999n) / 1_000_000n),
    );
  });

  it('of two calls is never less than that of both as one, and at most a micro-dollar more', () => {
    const price = fc.bigInt({ min: 0n, max: 10_000_000n });
    const count = fc.nat({ max: 10_000 });
    fc.assert(
      fc.property(fc.tuple(price, price, price, price), fc.tuple(count, count), fc.tuple(count, count), (p, a, b) => {
        const prices = {
          perRequestNanoUsd: p[0],
          perImageQueryNanoUsd: p[1],
          perInputTokenPicoUsd: p[2],
          perOutputTokenPicoUsd: p[3],
        };
        const cost = ([requests, tokens]: [number, number]) =>
          costMicroUsd(prices, requests, requests, { inputTokens: tokens, outputTokens: tokens });
        const apart = cost(a) + cost(b);
        const together = cost([a[0] + b[0], a[1] + b[1]]);
        expect(apart).toBeGreaterThanOrEqual(together);
        expect(apart).toBeLessThanOrEqual(together + 1);
      }),
    );
  });
});

describe('the amounts of a call', () => {
  const free: Pricing = { prices: FREE, capabilities: {} };

  it('count prompts with the first of their images and classes, and images under each prompt', () => {
    const first = { promptEvaluations: 2, imageQueries: 10, requests: 1, costMicroUsd: 0 };
    expect(amountsOfCall(free, call(), TEXTS)).toEqual(first);
    const later = { ...first, promptEvaluations: 0 };
    expect(amountsOfCall(free, call({ firstImage: 5 }), TEXTS)).toEqual(later);
    expect(amountsOfCall(free, call({ firstClass: 1, classCount: 1, anchored: true }), TEXTS)).toEqual(later);
  });

  it('of images evaluate no prompt', () => {
    const prices = { ...FREE, perImageQueryNanoUsd: 1500n, perInputTokenPicoUsd: 1_000_000n };
    expect(amountsOfImages({ prices, capabilities: { tokens: TOKENS } }, 4)).toEqual({
      promptEvaluations: 0,
      imageQueries: 4,
      requests: 1,
      costMicroUsd: 4 * 1.5 + 50 + 4 * 85,
    });
  });

  it('count tokens from above, of every text that the call can hold', () => {
    const limits = fc.record({
      promptsPerRequest: fc.integer({ min: 1, max: 4 }),
      imagesPerRequest: fc.integer({ min: 1, max: 4 }),
      classesPerRequest: fc.integer({ min: 2, max: 6 }),
      anchored: fc.boolean(),
      embedsTexts: fc.boolean(),
    });
    const name = fc.string({ unit: 'grapheme', minLength: 1, maxLength: 12 });
    const names = fc.array(name, { minLength: 1, maxLength: 9 });
    const words = fc.array(fc.string({ unit: 'grapheme', maxLength: 40 }), { minLength: 1, maxLength: 4 });
    fc.assert(
      fc.property(limits, names, fc.boolean(), words, (limited: CallLimits, all, described, prompts) => {
        const classes = { names: all, ...(described ? { descriptions: all.map((text) => `${text}?`) } : {}) };
        const templates = prompts.map((text) => `${text}{}${described ? '{description}' : ''}`);
        const texts = { classes, templateBytes: Math.max(...templates.map((text) => Buffer.byteLength(text))) };
        // A micro-dollar a token, one token a byte.
        const prices = { ...FREE, perInputTokenPicoUsd: 1_000_000n };
        const tokens = { perImage: 0, perRequest: 0, bytesPerToken: 1, outputPerRequest: 0 };
        const whole = { prompts: { kind: 'template', count: prompts.length, templates } as const, images: [], classes };
        for (const range of cutIntoCalls(prompts.length, [1, 1, 1], all.length, limited)) {
          const part = questionOf(range, whole);
          if (part.prompts.kind !== 'template') throw new TypeError('It is no template.');
          const sent = part.prompts.templates.flatMap((template) => renderTexts(template, part.classes));
          const bytes = sent.reduce((sum, text) => sum + Buffer.byteLength(text), 0);
          const { costMicroUsd: reserved } = amountsOfCall({ prices, capabilities: { tokens } }, range, texts);
          expect(reserved).toBeGreaterThanOrEqual(bytes);
        }
      }),
    );
  });

  it('add up', () => {
    const one = { promptEvaluations: 1, imageQueries: 2, requests: 3, costMicroUsd: 4 };
    expect(addAmounts(one, NOTHING)).toEqual(one);
    expect(addAmounts(one, one)).toEqual({ promptEvaluations: 2, imageQueries: 4, requests: 6, costMicroUsd: 8 });
  });
});

describe('mostTokens', () => {
  it('bounds a request by its images and bytes of text', () => {
    const capabilities = { tokens: TOKENS };
    expect(mostTokens({ capabilities }, { images: 0, texts: 0 })).toEqual({ inputTokens: 50, outputTokens: 2 });
    expect(mostTokens({ capabilities }, { images: 3, texts: 9 })).toEqual({
      inputTokens: 50 + 3 * 85 + 3,
      outputTokens: 2,
    });
  });

  it.each([{}, { tokens: null }])('is nothing where nothing is billed by the token: %j', (capabilities) => {
    const most = mostTokens({ capabilities }, { images: 9, texts: 999 });
    expect(most).toEqual({ inputTokens: 0, outputTokens: 0 });
  });
});
