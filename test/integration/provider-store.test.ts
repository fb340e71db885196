import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { SecretBox } from '../../src/access/secret-box.js';
import { registerEmbeddedProvider } from '../../src/embedded-provider.js';
import { Ledger } from '../../src/ledger/ledger.js';
import type { Provider, ScoreAnswer } from '../../src/providers/provider.js';
import { providerInputSchema } from '../../src/providers/provider-record.js';
import { ProviderStore } from '../../src/providers/provider-store.js';
import { type TestDatabase, testDatabase } from '../helpers/postgres.js';

/** Metadata of a black box; what it is asked to score it answers, late, with a 503. */
const METADATA = {
  name: 'clip',
  inputs: ['images', 'class_names', 'context'].map((name) => ({ name, datatype: 'BYTES', shape: [-1] })),
  outputs: [{ name: 'logits', datatype: 'FP32' }],
  parameters: { prompt: { context_tokens: 1, context_width: 1 } },
};
const LATE_MS = 300;

interface Box {
  url: string;
  /** Authorization headers it was sent. */
  keys: (string | undefined)[];
  scored: number;
  /** Called while it is asked for its metadata. */
  whenAsked: () => Promise<unknown>;
}

const servers: Server[] = [];

async function blackBox(): Promise<Box> {
  const box: Box = { url: '', keys: [], scored: 0, whenAsked: async () => {} };
  const server = createServer(async (request, response) => {
    box.keys.push(request.headers.authorization);
    if (request.method === 'GET') {
      await box.whenAsked();
      response.end(JSON.stringify(METADATA));
      return;
    }
    box.scored++;
    request.resume();
    setTimeout(() => response.writeHead(503).end(), LATE_MS);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  servers.push(server);
  box.url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  return box;
}

let database: TestDatabase['database'];
let connectionString: string;
let here: Box;
let elsewhere: Box;
let made = 0;

beforeAll(async () => {
  ({ database, connectionString } = await testDatabase());
  here = await blackBox();
  elsewhere = await blackBox();
});

afterAll(() => {
  for (const server of servers) {
    server.closeAllConnections();
    server.close();
  }
});

const KEY = '0f'.repeat(32);
const OLD = { type: 'bearer', token: 'old-key' } as const;
const NEW = { type: 'bearer', token: 'new-key' } as const;

function openStore(secretKey = KEY): ProviderStore {
  return new ProviderStore(database, new SecretBox(secretKey), new Ledger(database, connectionString));
}

function register(store: ProviderStore, changes: object = {}) {
  const input = { name: `box-${++made}`, protocol: 'open_inference', base_url: here.url, remote_model: 'clip' };
  return store.create(providerInputSchema.parse({ ...input, credentials: OLD, ...changes }));
}

/** Begins a call. @returns, once the black box has it, how it ends */
async function callInFlight(provider: Provider): Promise<{ answer: Promise<unknown> }> {
  const before = here.scored;
  const answer = score(provider).catch((error: unknown) => error);
  await expect.poll(() => here.scored).toBe(before + 1);
  return { answer };
}

function score(provider: Provider): Promise<ScoreAnswer> {
  return provider.score({
    prompts: { kind: 'context', count: 1, values: new Float32Array(1) },
    images: [{ sha256: '00'.repeat(32), size: 1, bytes: async () => Buffer.of(1) }],
    classNames: ['a', 'b'],
  });
}

const SERVED = { code: 'provider_unavailable' };

describe('a change of base_url', () => {
  it('sends stored credentials to no other host', async () => {
    const store = openStore();
    const { id } = await register(store);
    elsewhere.keys.length = 0;
    for (const base_url of [
      elsewhere.url,
      here.url.replace('http:', 'https:'),
      here.url.replace('127.0.0.1', 'localhost'),
    ]) {
      await expect(store.update(id, { base_url })).rejects.toMatchObject({
        status: 400,
        code: 'credentials_required',
        param: 'credentials',
        message: expect.stringContaining('"credentials": null'),
      });
    }
    expect(elsewhere.keys).toEqual([]);
    expect((await store.get(id)).baseUrl).toBe(here.url);
  });

  it('takes new credentials, or none, along', async () => {
    const store = openStore();
    const { id } = await register(store);
    elsewhere.keys.length = 0;
    await store.update(id, { base_url: elsewhere.url, credentials: NEW });
    expect(elsewhere.keys).toEqual(['Bearer new-key']);
    here.keys.length = 0;
    expect(await store.update(id, { base_url: here.url, credentials: null })).toMatchObject({ hasCredentials: false });
    expect(here.keys).toEqual([undefined]);
    await store.update(id, { base_url: elsewhere.url });
  });

  it('needs none on the same host', async () => {
    const store = openStore();
    const { id } = await register(store);
    expect((await store.update(id, { base_url: `${here.url}/v0` })).baseUrl).toBe(`${here.url}/v0`);
  });

  it('reaches the embedded provider at its new address, whatever key it has now', async () => {
    const store = openStore();
    const core = { providers: store } as unknown as Parameters<typeof registerEmbeddedProvider>[0];
    await registerEmbeddedProvider(core, here.url, 'some-key');
    await registerEmbeddedProvider(core, elsewhere.url, undefined);
    expect(await store.findByName('emoji-clip')).toMatchObject({ baseUrl: elsewhere.url, hasCredentials: false });
  });
});

describe('a change', () => {
  it('writes what was patched and nothing else', async () => {
    const store = openStore();
    const { id } = await register(store, { limits: { concurrency: 3, timeout_ms: 5000 } });
    const before = await database.provider.findUniqueOrThrow({ where: { id } });
    await store.update(id, { limits: { concurrency: 7 }, prices: { per_request_usd: 0.5 } });
    const after = await database.provider.findUniqueOrThrow({ where: { id } });
    const { updatedAt } = after;
    expect(after).toEqual({ ...before, concurrency: 7, pricePerRequestNanoUsd: 500_000_000n, updatedAt });
    await store.update(id, { limits: { requests_per_second: 5 } });
    expect((await store.update(id, { limits: { requests_per_second: null } })).limits.requestsPerSecond).toBeNull();
  });

  it('does not overwrite one that came in between', async () => {
    const store = openStore();
    const { id } = await register(store);
    here.whenAsked = () => {
      here.whenAsked = async () => {};
      return store.update(id, { limits: { concurrency: 9 } });
    };
    await expect(store.update(id, { remote_model: 'other' })).rejects.toMatchObject({
      status: 409,
      code: 'provider_changed',
      message: expect.stringContaining('Read it again'),
    });
    expect(await store.get(id)).toMatchObject({ remoteModel: 'clip', limits: { concurrency: 9 } });
  });

  it('does not bring back what was deleted in between', async () => {
    const store = openStore();
    const { id } = await register(store);
    here.whenAsked = () => {
      here.whenAsked = async () => {};
      return store.delete(id);
    };
    await expect(store.update(id, { remote_model: 'other' })).rejects.toMatchObject({ code: 'provider_not_found' });
  });

  it('is always later than the one before', async () => {
    const store = openStore();
    const { id } = await register(store);
    // A clock ahead of ours, or a change in the same millisecond.
    const ahead = new Date(Date.now() + 60_000);
    await database.provider.update({ where: { id }, data: { updatedAt: ahead } });
    const connected = await store.connect(id);
    const { updatedAt } = await store.update(id, { limits: { concurrency: 2 } });
    expect(updatedAt.getTime()).toBe(ahead.getTime() + 1);
    expect(await store.connect(id)).not.toBe(connected);
    await store.close();
  });

  it('of the credentials mends a record that another secret key has sealed', async () => {
    const { id } = await register(openStore());
    const store = openStore('1e'.repeat(32));
    await expect(store.connect(id)).rejects.toMatchObject({ status: 500, code: 'credentials_unreadable' });
    await store.update(id, { credentials: NEW });
    await store.connect(id);
    await store.close();
  });
});

describe('calls in flight', () => {
  it('are awaited when their provider is deleted', async () => {
    const store = openStore();
    const { id } = await register(store);
    const { answer } = await callInFlight(await store.connect(id));
    await store.delete(id);
    expect(await answer).toMatchObject(SERVED);
  });

  it('are awaited when their provider changes, and so are the next of whoever holds it', async () => {
    const store = openStore();
    const { id } = await register(store);
    const old = await store.connect(id);
    const { answer } = await callInFlight(old);
    await store.update(id, { limits: { concurrency: 2 } });
    const renewed = await store.connect(id);
    expect(renewed).not.toBe(old);
    expect(await answer).toMatchObject(SERVED);
    expect(await (await callInFlight(old)).answer).toMatchObject(SERVED);
    await store.close();
    for (const closed of [old, renewed]) {
      const { scored } = here;
      await expect(score(closed)).rejects.toMatchObject({ code: 'provider_closed', billing: 'unbilled' });
      expect(here.scored).toBe(scored);
    }
  });

  it('are awaited at shutdown', async () => {
    const store = openStore();
    const { id } = await register(store);
    const { answer } = await callInFlight(await store.connect(id));
    await store.close();
    expect(await answer).toMatchObject(SERVED);
  });
});
