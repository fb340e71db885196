import { createHash } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import type { Question } from '../../../src/providers/ask.js';
import type { ProviderImage } from '../../../src/providers/provider.js';
import { hashImages, hashQuestion } from '../../../src/providers/question-hash.js';

const IMAGES: ProviderImage[] = ['aa', 'bb'].map((sha256) => ({ sha256, size: 1, bytes: async () => Buffer.of(1) }));
const SOFT: Question = {
  prompts: { kind: 'context', count: 1, values: Float32Array.of(1, 2) },
  images: IMAGES,
  classes: { names: ['cat', 'dog'] },
};
const TEXT: Question = { ...SOFT, prompts: { kind: 'template', count: 2, templates: ['a {}', 'b {}'] } };
const MODEL = 'open_inference clip';

const hex = (bytes: Uint8Array) => Buffer.from(bytes).toString('hex');
const hashOf = (question: Question, model = MODEL) => hex(hashQuestion(model, question));

describe('the hash of a call', () => {
  it('of soft prompts is what it was before there were others, so that a job goes on across an update', () => {
    const before = createHash('sha256')
      .update(new Uint8Array(Float32Array.of(1, 2).buffer))
      .update(JSON.stringify([MODEL, ['aa', 'bb'], ['cat', 'dog']]));
    expect(hashOf(SOFT)).toBe(before.digest('hex'));
  });

  it('reads soft prompts from within a larger buffer', () => {
    const values = Float32Array.of(9, 1, 2, 9).subarray(1, 3);
    expect(hashOf({ ...SOFT, prompts: { kind: 'context', count: 1, values } })).toBe(hashOf(SOFT));
  });

  it('is another for everything that is asked', () => {
    const questions: [Question, string?][] = [
      [SOFT],
      [SOFT, 'open_inference other'],
      [{ ...SOFT, images: IMAGES.toReversed() }],
      [{ ...SOFT, classes: { names: ['dog', 'cat'] } }],
      [{ ...SOFT, prompts: { kind: 'context', count: 1, values: Float32Array.of(1, 3) } }],
      [TEXT],
      [{ ...TEXT, prompts: { kind: 'template', count: 2, templates: ['b {}', 'a {}'] } }],
      [{ ...TEXT, classes: { names: ['cat', 'dog'], descriptions: ['purrs', null] } }],
      [{ ...TEXT, classes: { names: ['cat', 'dog'], descriptions: [null, 'purrs'] } }],
      [{ ...TEXT, images: [] }],
    ];
    const hashes = questions.map(([question, model]) => hashOf(question, model));
    expect(new Set(hashes).size).toBe(questions.length);
    expect(questions.map(([question, model]) => hashOf(question, model))).toEqual(hashes);
  });

  it('of images depends on the model and on each image', () => {
    const hashes = [
      hashImages(MODEL, IMAGES),
      hashImages('embeddings clip', IMAGES),
      hashImages(MODEL, IMAGES.slice(1)),
      hashImages(MODEL, IMAGES.toReversed()),
    ].map(hex);
    expect(new Set(hashes).size).toBe(hashes.length);
  });
});
