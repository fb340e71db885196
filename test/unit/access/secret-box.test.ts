import { describe, expect, it } from 'vitest';
import { SecretBox } from '../../../src/access/secret-box.js';
import { CraftError } from '../../../src/errors.js';

const KEY = '0f'.repeat(32);

describe('SecretBox', () => {
  it('opens what it sealed, and no two sealings are alike', () => {
    const box = new SecretBox(KEY);
    const sealed = box.seal('hf_token ✓', 'prov-1');
    expect(box.open(sealed, 'prov-1')).toBe('hf_token ✓');
    expect(Buffer.from(sealed).includes('hf_token')).toBe(false);
    expect(box.seal('hf_token ✓', 'prov-1')).not.toEqual(sealed);
  });

  it('refuses another key, another owner and damaged bytes', () => {
    const box = new SecretBox(KEY);
    const sealed = box.seal('secret', 'prov-1');
    expect(() => new SecretBox('1e'.repeat(32)).open(sealed, 'prov-1')).toThrow(/CRAFT_SECRET_KEY/);
    expect(() => box.open(sealed, 'prov-2')).toThrow(/CRAFT_SECRET_KEY/);
    for (let i = 1; i < sealed.length; i++) {
      const damaged = sealed.slice();
      damaged[i] ^= 1;
      expect(() => box.open(damaged, 'prov-1')).toThrow();
    }
  });

  it('says as an error of the service what to do about another key', () => {
    const sealed = new SecretBox(KEY).seal('secret', 'prov-1');
    for (const bytes of [sealed, sealed.subarray(0, 20), Uint8Array.of(9)]) {
      let failure: unknown;
      try {
        new SecretBox('1e'.repeat(32)).open(bytes, 'prov-1');
      } catch (error) {
        failure = error;
      }
      expect(failure).toBeInstanceOf(CraftError);
      expect(failure).toMatchObject({ status: 500, type: 'server_error', code: 'credentials_unreadable' });
      expect((failure as CraftError).message).toContain('PATCH /v1/providers/{id}');
    }
  });

  it('wants a key of 32 bytes', () => {
    expect(() => new SecretBox('abcd')).toThrow(/64/);
  });
});
