import { availableParallelism } from 'node:os';
import { isAbsolute, resolve } from 'node:path';
import { describe, expect, it } from 'vitest';
import { ConfigError, readConfig } from '../../src/config.js';

describe('readConfig', () => {
  it('needs nothing', () => {
    const config = readConfig({});
    expect(config).toMatchObject({ host: '127.0.0.1', port: 8080, compute: 'auto', embeddedProvider: true });
    expect(isAbsolute(config.dataDirectory)).toBe(true);
    expect(config.databaseUrl).toBeUndefined();
  });

  it('takes an empty variable for one that is not set', () => {
    expect(readConfig({ DATABASE_URL: '', PORT: '' })).toMatchObject({ port: 8080, databaseUrl: undefined });
  });

  it('reads how the reference provider keeps its books', () => {
    expect(readConfig({})).toMatchObject({ providerIdempotency: true, providerState: undefined });
    const config = readConfig({ CRAFT_PROVIDER_IDEMPOTENCY: 'false', CRAFT_PROVIDER_STATE: 'state/usage.jsonl' });
    expect(config.providerIdempotency).toBe(false);
    expect(config.providerState).toBe(resolve('state/usage.jsonl'));
  });

  it('has many jobs side by side, and a thread for each core but one', () => {
    const { workerConcurrency, trainingThreads } = readConfig({});
    expect(workerConcurrency).toBe(64);
    expect(trainingThreads).toBe(Math.max(1, availableParallelism() - 1));
    expect(readConfig({ CRAFT_TRAINING_THREADS: '3' }).trainingThreads).toBe(3);
    expect(() => readConfig({ CRAFT_TRAINING_THREADS: '0' })).toThrow('CRAFT_TRAINING_THREADS');
  });

  it('reads which addresses may be called', () => {
    expect(readConfig({}).addressPolicy.toString()).toBe('');
    const { addressPolicy } = readConfig({ CRAFT_ALLOWED_NETWORKS: 'loopback, 10.0.0.0/8' });
    expect(addressPolicy.toString()).toBe('loopback,10.0.0.0/8');
    expect(() => readConfig({ CRAFT_ALLOWED_NETWORKS: 'loopback,10.0.0' })).toThrow(
      /CRAFT_ALLOWED_NETWORKS: "10.0.0" is/,
    );
  });

  it('reads whose pages may call from a browser', () => {
    expect(readConfig({}).corsOrigins).toEqual([]);
    const list = 'https://app.example.com, http://localhost:5173';
    expect(readConfig({ CRAFT_CORS_ORIGINS: list }).corsOrigins).toEqual([
      'https://app.example.com',
      'http://localhost:5173',
    ]);
    expect(readConfig({ CRAFT_CORS_ORIGINS: '*' }).corsOrigins).toBe('*');
    for (const wrong of ['https://app.example.com/', 'app.example.com', 'https://App.example.com', 'ftp://a', 'null']) {
      expect(() => readConfig({ CRAFT_CORS_ORIGINS: wrong }), wrong).toThrow(/CRAFT_CORS_ORIGINS: ".+" is no origin/);
    }
  });

  it('names every wrong variable and what it should look like', () => {
    const read = () =>
      readConfig({ PORT: '70000', CRAFT_SECRET_KEY: 'abc', REDIS_URL: 'localhost', CRAFT_COMPUTE: 'tpu' });
    expect(read).toThrow(ConfigError);
    for (const name of ['PORT', 'CRAFT_SECRET_KEY', 'REDIS_URL', 'CRAFT_COMPUTE']) expect(read).toThrow(name);
    expect(read).toThrow(/openssl rand -hex 32/);
  });

  it('reads who may speak for others', () => {
    expect(readConfig({}).trustedProxies.trusts('127.0.0.1')).toBe(false);
    expect(readConfig({ CRAFT_TRUSTED_PROXIES: '127.0.0.1' }).trustedProxies.trusts('127.0.0.1')).toBe(true);
    expect(() => readConfig({ CRAFT_TRUSTED_PROXIES: 'nginx' })).toThrow(/CRAFT_TRUSTED_PROXIES: "nginx" is/);
  });

  it.each(['p#w', 'p/w', 'p%w', 'p?w'])(
    'says how a password such as %s is written, without repeating it',
    (password) => {
      const read = () =>
        readConfig({
          DATABASE_URL: `postgresql://u:${password}@host:5432/db`,
          REDIS_URL: `redis://:${password}@host:6379`,
        });
      const escaped = encodeURIComponent(password);
      expect(
        readConfig({
          DATABASE_URL: `postgresql://u:${escaped}@host:5432/db`,
          REDIS_URL: `redis://:${escaped}@host:6379`,
        }).databaseUrl,
      ).toContain(escaped);
      for (const name of ['DATABASE_URL', 'REDIS_URL']) expect(read).toThrow(new RegExp(`${name}: .*percent-encoded`));
      expect(read).not.toThrow(password);
    },
  );

  it.each([
    ['CRAFT_API_KEY', 'sixteen letters or more', 'none of them a space'],
    ['CRAFT_PROVIDER_URL', 'provider:8081', 'http://provider:8081'],
    ['CRAFT_PROVIDER_URL', 'ftp://provider', 'http://provider:8081'],
  ])('refuses %s=%s, which could never work', (name, value, remedy) => {
    expect(() => readConfig({ [name]: value })).toThrow(new RegExp(`${name}: .*${remedy}`));
  });
});
