import { describe, expect, it } from 'vitest';
import { purchaseKey } from '../../../src/jobs/stored-answers.js';
import type { Provider } from '../../../src/providers/provider.js';

describe('the key of a purchase', () => {
  const provider = { accountFingerprint: 'abc' } as Provider;
  const call = { generation: 3, chunk: 1, hash: new Uint8Array(32).fill(0x5a) };
  const key = (changes: Partial<typeof call> = {}, useless = 0, at = provider) =>
    purchaseKey('ftjob-1', at, { ...call, ...changes }, useless);

  it('is the same for the same call, and another for another question, place, account or useless answer', () => {
    expect(key()).toBe('ftjob-1/abc/3/1/5a5a5a5a5a5a5a5a');
    const others = [
      key({ hash: new Uint8Array(32) }),
      key({ generation: 4 }),
      key({ chunk: 2 }),
      key({}, 1),
      key({}, 2),
      key({}, 0, { accountFingerprint: 'def' } as Provider),
    ];
    expect(new Set([key(), ...others]).size).toBe(7);
  });
});
