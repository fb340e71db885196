import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';
import { SecretBox } from '../../src/access/secret-box.js';
import { registerEmbeddedProvider } from '../../src/embedded-provider.js';
import { Ledger } from '../../src/ledger/ledger.js';
import { AddressPolicy } from '../../src/outgoing/address-policy.js';
import type { Provider, ScoreAnswer } from '../../src/providers/provider.js';
import { providerInputSchema } from '../../src/providers/provider-record.js';
import { ProviderStore } from '../../src/providers/provider-store.js';
import { type TestDatabase, testDatabase } from '../helpers/postgres.js';

/** Metadata of a black box; what it is asked to score it answers, late, with a 503. */
const METADATA = {
  name: 'clip',
  inputs: [
    { name: 'images', datatype: 'BYTES', shape: [-1] },
    { name: 'class_names', datatype: 'BYTES', shape: [-1] },
    { name: 'context', datatype: 'FP32', shape: [-1, 1, 1] },
  ],
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

function openStore(secretKey = KEY, allowed = 'loopback'): ProviderStore {
  return new ProviderStore(
    database,
    new SecretBox(secretKey),
    new Ledger(database, connectionString),
    AddressPolicy.parse(allowed),
  );
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
  if (provider.kind !== 'scoring') throw new TypeError('It embeds.');
  return provider.score({
    prompts: { kind: 'context', count: 1, values: new Float32Array(1) },
    images: [{ sha256: '00'.repeat(32), size: 1, bytes: async () => Buffer.of(1) }],
    classes: { names: ['a', 'b'] },
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

describe('an address', () => {
  const REFUSED = {
    status: 400,
    code: 'address_not_allowed',
    param: 'base_url',
    message: expect.stringContaining('CRAFT_ALLOWED_NETWORKS'),
  };

  it.each([
    'http://169.254.169.254/latest',
    'http://169.254.169.254.:80',
    'http://0xa9fea9fe',
    'http://2852039166',
    'http://[fe80::1]',
    'http://[febf::1]:8000',
    'http://[::ffff:169.254.169.254]',
  ])('that is link-local is not called where the operator does not allow it: %s', async (base_url) => {
    const store = openStore();
    await expect(register(store, { base_url })).rejects.toMatchObject(REFUSED);
    const { id } = await register(store);
    await expect(store.update(id, { base_url, credentials: null })).rejects.toMatchObject(REFUSED);
    expect((await store.get(id)).baseUrl).toBe(here.url);
  });

  it('of the loopback interface is called only where the operator allows it', async () => {
    const before = here.keys.length;
    await expect(register(openStore(KEY, ''))).rejects.toMatchObject(REFUSED);
    expect(here.keys).toHaveLength(before);
  });

  it('of the service itself is trusted by its origin alone', async () => {
    const store = openStore(KEY, '');
    store.trust(here.url);
    expect((await register(store)).baseUrl).toBe(here.url);
    await expect(register(store, { base_url: elsewhere.url })).rejects.toMatchObject(REFUSED);
  });
});

describe('settings', () => {
  it('are those of the protocol, in a patch too, and replace the present ones as a whole', async () => {
    const store = openStore();
    const { id } = await register(store, { settings: { unbilled_statuses: [503] } });
    for (const [settings, param] of [
      [{ dialect: 'jina' }, 'settings.dialect'],
      [{ returns: 'votes' }, 'settings.returns'],
      [{ unbilled_statuses: [503, 99] }, 'settings.unbilled_statuses.1'],
    ] as const) {
      await expect(store.update(id, { settings })).rejects.toMatchObject({
        status: 400,
        code: 'invalid_settings',
        param,
        message: expect.stringContaining('open_inference'),
      });
    }
    const { settings, capabilities } = await store.update(id, { settings: { returns: 'probabilities' } });
    expect(settings).toMatchObject({ returns: 'probabilities', unbilled_statuses: [] });
    expect(capabilities.returns).toBe('probabilities');
  });

  it('are asked of the provider again before they are kept', async () => {
    const store = openStore();
    const { id } = await register(store);
    await expect(store.update(id, { settings: { tensors: { logits: 'scores' } } })).rejects.toMatchObject({
      code: 'provider_tensor_missing',
      param: 'settings.tensors.logits',
    });
    expect((await store.get(id)).settings).toMatchObject({ tensors: { logits: 'logits' } });
  });
});

describe('prices and limits by the token', () => {
  it('are kept without loss', async () => {
    const store = openStore();
    const { id } = await register(store, {
      protocol: 'embeddings',
      limits: { tokens_per_second: 2500.5 },
      prices: { per_million_input_tokens_usd: 0.15, per_million_output_tokens_usd: 0.6 },
    });
    expect(await store.get(id)).toMatchObject({
      limits: { tokensPerSecond: 2500.5 },
      prices: { perInputTokenPicoUsd: 150_000n, perOutputTokenPicoUsd: 600_000n },
    });
    const changed = await store.update(id, {
      limits: { tokens_per_second: null },
      prices: { per_million_output_tokens_usd: 0 },
    });
    expect(changed).toMatchObject({
      limits: { tokensPerSecond: null },
      prices: { perInputTokenPicoUsd: 150_000n, perOutputTokenPicoUsd: 0n },
    });
  });
});

describe('prices by the token at a provider that says nothing of tokens', () => {
  const REFUSED = { status: 400, code: 'token_prices_not_supported' };

  it.each(['per_million_input_tokens_usd', 'per_million_output_tokens_usd'])(
    'are refused when it is registered and changed: %s',
    async (price) => {
      const store = openStore();
      const prices = { per_request_usd: 0.5, [price]: 0.1 };
      const refused = { ...REFUSED, param: `prices.${price}` };
      await expect(register(store, { prices })).rejects.toMatchObject(refused);
      const { id } = await register(store, { prices: { ...prices, [price]: 0 } });
      await expect(store.update(id, { prices })).rejects.toMatchObject(refused);
      expect((await store.get(id)).prices).toMatchObject({ perInputTokenPicoUsd: 0n, perOutputTokenPicoUsd: 0n });
    },
  );
});

describe('a change of remote_model', () => {
  it('takes the names that the protocol can ask for', async () => {
    const store = openStore();
    const { id } = await register(store);
    const asked = here.keys.length;
    await expect(store.update(id, { remote_model: 'org/clip' })).rejects.toMatchObject({
      status: 400,
      code: 'invalid_remote_model',
      param: 'remote_model',
    });
    expect(here.keys).toHaveLength(asked);
    const other = await register(store, { protocol: 'embeddings' });
    expect((await store.update(other.id, { remote_model: 'org/clip' })).remoteModel).toBe('org/clip');
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

  it('go on for whoever has borrowed it, however long ago its record changed', async () => {
    const store = openStore();
    const { id } = await register(store);
    const first = await store.borrow(id);
    const second = await store.borrow(id);
    expect(second.provider).toBe(first.provider);
    await store.update(id, { limits: { concurrency: 2 } });
    vi.useFakeTimers({ toFake: ['setTimeout'] });
    try {
      await store.connect(id);
      first.giveBack();
      vi.advanceTimersByTime(40 * 60_000);
      const { answer } = await callInFlight(second.provider);
      vi.advanceTimersByTime(LATE_MS);
      expect(await answer).toMatchObject(SERVED);
      second.giveBack();
      vi.advanceTimersByTime(20 * 60_000);
      await expect(score(second.provider)).rejects.toMatchObject({ code: 'provider_closed' });
    } finally {
      vi.useRealTimers();
    }
    await store.close();
  });

  it('are awaited at shutdown', async () => {
    const store = openStore();
    const { id } = await register(store);
    const { answer } = await callInFlight(await store.connect(id));
    await store.close();
    expect(await answer).toMatchObject(SERVED);
  });
});
