import { randomBytes } from 'node:crypto';
import sharp from 'sharp';
import { describe, expect, it } from 'vitest';
import {
  callLimits,
  effectiveLimits,
  imageCallLimits,
  type Question,
  sentSizes,
} from '../../../src/providers/call-limits.js';
import { classIndicesOf, cutIntoCalls, largestImageBytes } from '../../../src/providers/calls.js';
import type { ProviderCapabilities, ProviderLimits } from '../../../src/providers/provider.js';

const LIMITS: ProviderLimits = {
  requestsPerSecond: null,
  tokensPerSecond: null,
  concurrency: 4,
  imagesPerRequest: 1024,
  promptsPerRequest: 40,
  maxRequestBytes: 32 * 1024 * 1024,
  timeoutMs: 1000,
};

function provider(stated: Partial<ProviderCapabilities> = {}) {
  const capabilities: ProviderCapabilities = {
    promptSpace: 'soft',
    contextTokens: 4,
    contextWidth: 128,
    initialContext: null,
    defaultTemplate: 'a photo of a {}.',
    maxImagesPerRequest: null,
    maxPromptsPerRequest: null,
    maxClassesPerRequest: null,
    maxTextsPerRequest: null,
    maxLogitsPerRequest: null,
    maxRequestBytes: null,
    returns: 'logits',
    imageReferences: true,
    idempotency: null,
    ...stated,
  };
  return { name: 'box', limits: LIMITS, capabilities };
}

const named = (...names: string[]): Question => ({ space: 'soft', classes: { names }, templateBytes: 0 });
const classes = (count: number) => named(...Array.from({ length: count }, (_, i) => `class ${i}`));
const images = (count: number) => new Array<number>(count).fill(1000);

describe('effectiveLimits', () => {
  it('keeps to the tighter of record and provider', () => {
    const { capabilities } = provider({
      maxImagesPerRequest: 10,
      maxPromptsPerRequest: 100,
      maxRequestBytes: 1_000_000,
    });
    expect(effectiveLimits(LIMITS, capabilities)).toEqual({
      ...LIMITS,
      imagesPerRequest: 10,
      maxRequestBytes: 1_000_000,
    });
  });
});

describe('callLimits', () => {
  it('keeps the logits of a call within what the provider states', () => {
    const limits = callLimits(provider({ maxLogitsPerRequest: 16_777_216 }), classes(500), null);
    const calls = cutIntoCalls(40, images(1000), 500, limits);
    expect(calls).toHaveLength(2);
    for (const call of calls) expect(call.promptCount * call.imageCount * 500).toBeLessThanOrEqual(16_777_216);
  });

  it('keeps the texts of a call within what the provider states', () => {
    const limits = callLimits(provider({ maxTextsPerRequest: 5000 }), classes(500), null);
    expect(cutIntoCalls(40, images(10), 500, limits).map((call) => call.promptCount)).toEqual([10, 10, 10, 10]);
  });

  it('takes names and prompts from the bytes of a request', () => {
    const bytesOf = (question: Question) => callLimits(provider(), question, null).bytes!;
    const text = (template: string, ...names: string[]): Question => ({
      ...named(...names),
      space: 'text',
      templateBytes: Buffer.byteLength(template),
    });
    expect(bytesOf(named('é', 'b')).perRequest).toBe(bytesOf(named('é', 'b', 'ccc')).perRequest + 4 + 3);
    expect(bytesOf(named('a', 'b')).perPrompt).toBe(4 * 128 * 4);
    expect(bytesOf(text('ein {} für alle', 'a', 'b')).perPrompt).toBe(4 + 16);
    const { perPrompt } = callLimits(provider({ imageEncoding: 'base64' }), named('a', 'b'), null).bytes!;
    const longest = [...new Float32Array(4 * 128).fill(-1.2345678e-6)].map((value) => `${value},`).join('');
    expect((perPrompt * 4) / 3).toBeGreaterThanOrEqual(longest.length);
  });

  it('takes a template once for each class where whole sentences are sent', () => {
    const question: Question = { space: 'text', classes: { names: ['a', 'b', 'c'] }, templateBytes: 16 };
    const descriptions = ['small', null, 'large'];
    const bytesOf = (stated: Partial<ProviderCapabilities>, asked = question) =>
      callLimits(provider(stated), asked, null).bytes!;
    const described = { ...question, classes: { ...question.classes, descriptions } };
    expect(bytesOf({}, described).perPrompt).toBe(3 * (4 + 16));
    expect(bytesOf({}, described).perRequest).toBe(bytesOf({}).perRequest - 'smalllarge'.length);
    expect(bytesOf({ imageEncoding: 'base64' }).perPrompt).toBe(3 * (4 + 16));
    expect(bytesOf({ imageEncoding: 'base64', maxClassesPerRequest: 2 }).perPrompt).toBe(2 * (4 + 16));
  });

  it('leaves room for what images grow by as base64', () => {
    const { capabilities, ...rest } = provider({ imageEncoding: 'base64', maxRequestBytes: 2_000_000 });
    const { bytes } = callLimits({ ...rest, capabilities }, named('a', 'b'), null);
    const largest = largestImageBytes({ promptsPerRequest: 1, imagesPerRequest: 1, bytes });
    expect((largest * 4) / 3).toBeLessThan(2_000_000);
    expect((largest * 4) / 3).toBeGreaterThan(1_970_000);
  });

  it('asks one prompt at a time where classes have descriptions, unless texts are embedded', () => {
    const described: Question = {
      space: 'text',
      classes: { names: ['a', 'b'], descriptions: ['x', null] },
      templateBytes: 9,
    };
    expect(callLimits(provider(), described, null).promptsPerRequest).toBe(1);
    expect(callLimits(provider({ returns: 'embeddings' }), described, null)).toMatchObject({
      promptsPerRequest: 40,
      embedsTexts: true,
    });
  });

  it('asks no more than the counts of a record that states nothing else', () => {
    const { capabilities, ...rest } = provider();
    const { maxClassesPerRequest, maxTextsPerRequest, maxLogitsPerRequest, maxRequestBytes, ...old } = capabilities;
    const limits = callLimits({ ...rest, capabilities: old as ProviderCapabilities }, classes(500), null);
    expect(limits).toMatchObject({ promptsPerRequest: 40, imagesPerRequest: 1024 });
    expect(limits.imageQueriesPerRequest).toBeUndefined();
  });

  it.each([
    ['maxClassesPerRequest', 499],
    ['maxTextsPerRequest', 499],
    ['maxLogitsPerRequest', 499],
  ] as const)('asks about more classes than %s allows in rounds', (name, maximum) => {
    const limitsOf = (count: number, stated: Partial<ProviderCapabilities> = {}) =>
      callLimits(provider({ [name]: maximum, ...stated }), classes(count), 'training_file');
    expect(limitsOf(499)).not.toHaveProperty('classesPerRequest');
    expect(limitsOf(500)).toMatchObject({ classesPerRequest: 499 });
    expect(limitsOf(500)).not.toHaveProperty('anchored');
    expect(limitsOf(500, { returns: 'probabilities' })).toMatchObject({ classesPerRequest: 499, anchored: true });
    for (const call of cutIntoCalls(40, images(10), 1200, limitsOf(1200, { returns: 'log_probabilities' }))) {
      expect(classIndicesOf(call).length).toBeLessThanOrEqual(499);
    }
  });

  it.each([
    ['probabilities', 1, true],
    ['log_probabilities', 1, true],
    ['top_log_probabilities', 1, true],
    ['probabilities', 2, false],
    ['logits', 1, false],
    ['embeddings', 1, false],
  ] as const)('with %s, where a request takes %i of three classes, refuses them: %s', (returns, most, refused) => {
    const ask = (count: number) => () =>
      callLimits(provider({ returns, maxClassesPerRequest: most }), classes(count), 'training_file');
    expect(ask(1)).not.toThrow();
    if (!refused) {
      expect(ask(3)()).toMatchObject({ classesPerRequest: most });
      return;
    }
    expect(ask(3)).toThrow(
      expect.objectContaining({
        status: 400,
        code: 'too_many_classes_for_provider',
        param: 'training_file',
        message: expect.stringContaining('at most 1 class'),
      }),
    );
  });
});

describe('imageCallLimits', () => {
  it('cuts images by count and bytes alone', () => {
    const limits = imageCallLimits(
      provider({ maxImagesPerRequest: 3, maxClassesPerRequest: 1, imageEncoding: 'base64' }),
    );
    expect(cutIntoCalls(1, images(7), 1, limits).map(({ imageCount }) => imageCount)).toEqual([2, 2, 3]);
    expect(limits).not.toHaveProperty('embedsTexts');
    expect(largestImageBytes(limits)).toBeLessThan((LIMITS.maxRequestBytes * 3) / 4);
  });
});

describe('sentSizes', () => {
  it('are those of the files, or of what they are scaled to', () => {
    const files = [{ size: 10 }, { size: 5_000_000 }];
    expect(sentSizes({}, files)).toEqual([10, 5_000_000]);
    expect(sentSizes({ imageSize: null }, files)).toEqual([10, 5_000_000]);
    expect(sentSizes({ imageSize: { width: 2, height: 2, bytes: 48 } }, files)).toEqual([48, 48]);
  });

  it.each([
    [1, 1],
    [224, 224],
    [8, 2048],
    [1024, 1024],
  ])('are never below those of a PNG file of %i × %i', async (width, height) => {
    const noise = randomBytes(width * height * 3);
    const { length } = await sharp(noise, { raw: { width, height, channels: 3 } })
      .png({ compressionLevel: 6 })
      .toBuffer();
    const [size] = sentSizes({ imageSize: { width, height } }, [{ size: 1 }]);
    expect(size).toBeGreaterThanOrEqual(length);
    expect(size).toBeLessThanOrEqual(1.01 * length + 2048);
  });
});
