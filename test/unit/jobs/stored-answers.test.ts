import { describe, expect, it } from 'vitest';
import { purchaseKey } from '../../../src/jobs/stored-answers.js';
import type { Question } from '../../../src/providers/ask.js';
import type { Provider, ProviderImage } from '../../../src/providers/provider.js';
import { hashQuestion } from '../../../src/providers/question-hash.js';

const IMAGES: ProviderImage[] = ['aa', 'bb'].map((sha256) => ({ sha256, size: 1, bytes: async () => Buffer.of(1) }));
const SOFT: Question = {
  prompts: { kind: 'context', count: 1, values: Float32Array.of(1, 2) },
  images: IMAGES,
  classes: { names: ['cat', 'dog'] },
};
const TEXT: Question = { ...SOFT, prompts: { kind: 'template', count: 2, templates: ['a {}', 'b {}'] } };
const MODEL = 'open_inference clip';

describe('the key of a purchase', () => {
  const provider = { accountFingerprint: 'abc' } as Provider;
  const call = { generation: 3, chunk: 1, hash: hashQuestion(MODEL, SOFT) };
  const key = (changes: Partial<typeof call> = {}, useless = 0, at = provider) =>
    purchaseKey('ftjob-1', at, { ...call, ...changes }, useless);

  it('is the same for the same call, and another for another question, place, account or useless answer', () => {
    expect(key()).toBe(`ftjob-1/abc/3/1/${Buffer.from(call.hash).toString('hex').slice(0, 16)}`);
    const others = [
      key({ hash: hashQuestion(MODEL, TEXT) }),
      key({ generation: 4 }),
      key({ chunk: 2 }),
      key({}, 1),
      key({}, 2),
      key({}, 0, { accountFingerprint: 'def' } as Provider),
    ];
    expect(new Set([key(), ...others]).size).toBe(7);
  });
});
