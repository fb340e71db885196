import { describe, expect, it } from 'vitest';
import { ask, embeddedTexts, pickPrompts, questionOf } from '../../../src/providers/ask.js';
import type { CallRange } from '../../../src/providers/calls.js';
import type { EmbeddingProvider, Prompts, ProviderImage, ScoringProvider } from '../../../src/providers/provider.js';

const CONTEXTS: Prompts = { kind: 'context', count: 3, values: Float32Array.of(0, 1, 10, 11, 20, 21) };
const TEMPLATES: Prompts = { kind: 'template', count: 3, templates: ['a {}', 'b {}', '{}, {description}'] };
const IMAGES: ProviderImage[] = ['0', '1', '2', '3'].map((sha256) => ({
  sha256,
  size: 1,
  bytes: async () => Buffer.from(sha256),
}));
const CLASSES = { names: ['cat', 'dog', 'fox'], descriptions: ['purrs', null, 'is sly'] };

function call(changes: Partial<CallRange> = {}): CallRange {
  return {
    chunk: 0,
    ...{ firstPrompt: 0, promptCount: 3, firstImage: 0, imageCount: 4, firstClass: 0, classCount: 3, anchored: false },
    ...changes,
  };
}

describe('the question of a call', () => {
  it('is the part of prompts, images and classes that the call carries', () => {
    const range = call({ firstPrompt: 1, promptCount: 2, firstImage: 3, imageCount: 1, firstClass: 2, classCount: 1 });
    const { prompts, images, classes } = questionOf(range, { prompts: CONTEXTS, images: IMAGES, classes: CLASSES });
    expect(prompts).toEqual({ kind: 'context', count: 2, values: Float32Array.of(10, 11, 20, 21) });
    expect(images).toEqual([IMAGES[3]]);
    expect(classes).toEqual({ names: ['fox'], descriptions: ['is sly'] });
  });

  it('begins with class 0 where it is the anchor', () => {
    const range = call({ firstClass: 1, classCount: 2, anchored: true });
    expect(questionOf(range, { prompts: TEMPLATES, images: [], classes: CLASSES }).classes.names).toEqual([
      'cat',
      'dog',
      'fox',
    ]);
    const last = call({ firstClass: 2, classCount: 1, anchored: true });
    expect(questionOf(last, { prompts: TEMPLATES, images: [], classes: CLASSES }).classes).toEqual({
      names: ['cat', 'fox'],
      descriptions: ['purrs', 'is sly'],
    });
  });

  it('is the whole where one call carries it', () => {
    const whole = { prompts: TEMPLATES, images: IMAGES, classes: CLASSES };
    expect(questionOf(call(), whole)).toEqual(whole);
  });
});

describe('pickPrompts', () => {
  it('takes contexts without copying them', () => {
    const picked = pickPrompts(CONTEXTS, 1, 1);
    if (picked.kind !== 'context' || CONTEXTS.kind !== 'context') throw new TypeError('These are no contexts.');
    expect(picked.values.buffer).toBe(CONTEXTS.values.buffer);
    expect([...picked.values]).toEqual([10, 11]);
    expect(pickPrompts(TEMPLATES, 1, 2)).toEqual({
      kind: 'template',
      count: 2,
      templates: ['b {}', '{}, {description}'],
    });
  });
});

describe('ask', () => {
  const billed = { imageQueries: 1, requests: 1, costMicroUsd: 0 };
  const question = { prompts: TEMPLATES, images: IMAGES, classes: CLASSES };
  const options = { idempotencyKey: 'key', signal: new AbortController().signal };

  it('has a provider that scores do so', async () => {
    const asked: unknown[] = [];
    const scoring = {
      kind: 'scoring',
      score: async (request) => {
        asked.push(request);
        return { logits: Float32Array.of(1), billed };
      },
    } as Partial<ScoringProvider> as ScoringProvider;
    expect(await ask(scoring, question, options)).toEqual({ answer: Float32Array.of(1), billed });
    expect(asked).toEqual([{ ...question, ...options }]);
    expect(embeddedTexts(scoring, question)).toBe(0);
  });

  it('has a provider that embeds embed every prompt with every class, prompts outermost', async () => {
    const asked: unknown[] = [];
    const embedding = {
      kind: 'embedding',
      embedTexts: async (texts, given) => {
        asked.push(texts, given);
        return { embeddings: Float32Array.of(2), billed: null };
      },
    } as Partial<EmbeddingProvider> as EmbeddingProvider;
    expect(await ask(embedding, question, options)).toEqual({ answer: Float32Array.of(2), billed: null });
    expect(asked).toEqual([
      ['a cat', 'a dog', 'a fox', 'b cat', 'b dog', 'b fox', 'cat, purrs', 'dog,', 'fox, is sly'],
      options,
    ]);
    expect(embeddedTexts(embedding, question)).toBe(9);
    await expect(ask(embedding, { ...question, prompts: CONTEXTS }, options)).rejects.toThrow(TypeError);
  });
});
