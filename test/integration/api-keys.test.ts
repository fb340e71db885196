import { beforeAll, describe, expect, it, onTestFinished, vi } from 'vitest';
import { ApiKeys } from '../../src/access/api-keys.js';
import { type TestDatabase, testDatabase } from '../helpers/postgres.js';

let db: TestDatabase;
beforeAll(async () => {
  db = await testDatabase();
});

const bearer = (key: string) => `Bearer ${key}`;

describe('ApiKeys', () => {
  it('knows a key by its hash alone', async () => {
    const keys = new ApiKeys(db.database);
    const key = ApiKeys.generate();
    await keys.ensure(key, 'one');
    await keys.ensure(key, 'one');
    const caller = await keys.authenticate(bearer(key), '127.0.0.1');
    const row = await db.database.apiKey.findUniqueOrThrow({ where: { id: caller.apiKeyId } });
    expect(Buffer.from(row.hash)).toHaveLength(32);
    expect(JSON.stringify(row)).not.toContain(key);
  });

  it('revokes the key that another one of its name replaces, and no other', async () => {
    const [old, replacement, other] = [ApiKeys.generate(), ApiKeys.generate(), ApiKeys.generate()];
    const keys = new ApiKeys(db.database);
    await keys.ensure(other, 'other');
    await keys.ensure(old, 'first');
    await keys.ensure(replacement, 'first');
    // Another process, or this one once it has forgotten what it remembers.
    const elsewhere = new ApiKeys(db.database);
    await expect(elsewhere.authenticate(bearer(old), 'a')).rejects.toMatchObject({ code: 'invalid_api_key' });
    await elsewhere.authenticate(bearer(replacement), 'a');
    await elsewhere.authenticate(bearer(other), 'a');
    await keys.ensure(old, 'first');
    await new ApiKeys(db.database).authenticate(bearer(old), 'a');
  });

  it('makes an address wait after many wrong keys, but not those that hold a key it remembers', async () => {
    const keys = new ApiKeys(db.database);
    const key = ApiKeys.generate();
    await keys.ensure(key, 'known');
    await keys.authenticate(bearer(key), '10.0.0.1');
    const codes = new Set<string>();
    for (let i = 0; i < 40; i++) {
      await keys.authenticate(bearer(`ck-wrong-${i}`), '10.0.0.1').catch(({ code }) => codes.add(code));
    }
    expect([...codes]).toEqual(['invalid_api_key', 'too_many_wrong_keys']);
    await keys.authenticate(bearer(key), '10.0.0.1');
    await expect(keys.authenticate(bearer('ck-wrong'), '10.0.0.2')).rejects.toMatchObject({ code: 'invalid_api_key' });
  });

  it('makes nobody wait whose key was right before, for as long as its address has to, unless it was revoked', async () => {
    vi.useFakeTimers({ toFake: ['Date'] });
    onTestFinished(() => {
      vi.useRealTimers();
    });
    const keys = new ApiKeys(db.database);
    const [key, old] = [ApiKeys.generate(), ApiKeys.generate()];
    await keys.ensure(key, 'steady');
    await keys.ensure(old, 'replaced');
    for (const right of [key, old]) await keys.authenticate(bearer(right), '10.0.0.3');
    for (let i = 0; i < 30; i++) {
      await keys.authenticate(bearer(`ck-wrong-${i}`), '10.0.0.3').catch(() => undefined);
    }
    await keys.ensure(ApiKeys.generate(), 'replaced');
    vi.setSystemTime(Date.now() + 45_000);
    await keys.authenticate(bearer(key), '10.0.0.3');
    await expect(keys.authenticate(bearer(old), '10.0.0.3')).rejects.toMatchObject({ code: 'invalid_api_key' });
    await expect(keys.authenticate(bearer(old), '10.0.0.3')).rejects.toMatchObject({ code: 'too_many_wrong_keys' });
  });
});
