import { describe, expect, it } from 'vitest';
import { callLimits, effectiveLimits } from '../../../src/providers/call-limits.js';
import { cutIntoCalls } from '../../../src/providers/calls.js';
import type { ProviderCapabilities, ProviderLimits } from '../../../src/providers/provider.js';

const LIMITS: ProviderLimits = {
  requestsPerSecond: null,
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

const classes = (count: number) => Array.from({ length: count }, (_, i) => `class ${i}`);
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
    const limits = callLimits(provider({ maxLogitsPerRequest: 16_777_216 }), { classNames: classes(500) }, null);
    const calls = cutIntoCalls(40, images(1000), limits);
    expect(calls).toHaveLength(2);
    for (const call of calls) expect(call.promptCount * call.imageCount * 500).toBeLessThanOrEqual(16_777_216);
  });

  it('keeps the texts of a call within what the provider states', () => {
    const limits = callLimits(provider({ maxTextsPerRequest: 5000 }), { classNames: classes(500) }, null);
    expect(cutIntoCalls(40, images(10), limits).map((call) => call.promptCount)).toEqual([10, 10, 10, 10]);
  });

  it('takes names and prompts from the bytes of a request', () => {
    const bytesOf = (classNames: string[], template?: string) =>
      callLimits(provider(), { classNames, template }, null).bytes!;
    expect(bytesOf(['é', 'b']).perRequest).toBe(bytesOf(['é', 'b', 'ccc']).perRequest + 4 + 3);
    expect(bytesOf(['a', 'b']).perPrompt).toBe(4 * 128 * 4);
    expect(bytesOf(['a', 'b'], 'ein {} für alle').perPrompt).toBe(4 + 16);
  });

  it('asks no more than the counts of a record that states nothing else', () => {
    const { capabilities, ...rest } = provider();
    const { maxClassesPerRequest, maxTextsPerRequest, maxLogitsPerRequest, maxRequestBytes, ...old } = capabilities;
    const limits = callLimits(
      { ...rest, capabilities: old as ProviderCapabilities },
      { classNames: classes(500) },
      null,
    );
    expect(limits).toMatchObject({ promptsPerRequest: 40, imagesPerRequest: 1024 });
    expect(limits.imageQueriesPerRequest).toBeUndefined();
  });

  it.each([
    ['maxClassesPerRequest', 499],
    ['maxTextsPerRequest', 499],
    ['maxLogitsPerRequest', 499],
  ] as const)('refuses more classes than %s allows', (name, maximum) => {
    const ask = (count: number) =>
      callLimits(provider({ [name]: maximum }), { classNames: classes(count) }, 'training_file');
    expect(() => ask(499)).not.toThrow();
    expect(() => ask(500)).toThrow(
      expect.objectContaining({
        status: 400,
        code: 'too_many_classes_for_provider',
        param: 'training_file',
        message: expect.stringContaining('at most 499'),
      }),
    );
  });
});
