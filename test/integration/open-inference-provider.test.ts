import { createHash } from 'node:crypto';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { readExample } from '../../src/demo/example-data.js';
import { InvalidRequestError } from '../../src/errors.js';
import { encodeInferResponse } from '../../src/formats/open-inference-binary.js';
import { AddressPolicy } from '../../src/outgoing/address-policy.js';
import { describeOpenInference, OpenInferenceProvider } from '../../src/providers/open-inference.js';
import type {
  Prompts,
  ProviderCapabilities,
  ProviderImage,
  ProviderPrices,
  ScoreRequest,
} from '../../src/providers/provider.js';
import { ProviderCallError } from '../../src/providers/provider-call-error.js';
import type { ConnectionOf } from '../../src/providers/provider-connection.js';
import { openInferenceSettings } from '../../src/providers/settings/open-inference.js';
import { startContextOf } from '../../src/providers/start-context.js';
import { type RunningReferenceProvider, startReferenceProvider } from '../../src/reference-provider/start.js';

type Connection = ConnectionOf<'open_inference'>;

let server: RunningReferenceProvider;
let images: ProviderImage[];
let classNames: string[];
let bytesSent = 0;

beforeAll(async () => {
  server = await startReferenceProvider({
    modelDirectory: fileURLToPath(new URL('../../models/emoji-clip', import.meta.url)),
    apiKeys: ['key'],
  });
  const example = await readExample('fluent-contrast-subgroups', 'seed-1');
  classNames = example.classes.slice(0, 5);
  images = example.train.slice(0, 8).map(({ bytes }) => ({
    sha256: createHash('sha256').update(bytes).digest('hex'),
    size: bytes.length,
    bytes: async () => {
      bytesSent++;
      return bytes;
    },
  }));
});

afterAll(() => server.close());

function connection(overrides: Partial<Connection> = {}): Connection {
  return {
    id: 'prov-1',
    name: 'box',
    protocol: 'open_inference',
    baseUrl: server.url,
    remoteModel: 'emoji-clip',
    credentials: { type: 'bearer', token: 'key' },
    settings: openInferenceSettings.parse({}),
    limits: {
      requestsPerSecond: null,
      tokensPerSecond: null,
      concurrency: 2,
      imagesPerRequest: 5000,
      promptsPerRequest: 5000,
      maxRequestBytes: 1024 * 1024 * 1024,
      timeoutMs: 5000,
    },
    addresses: AddressPolicy.parse('loopback'),
    ...overrides,
  };
}

const FREE: ProviderPrices = {
  perRequestNanoUsd: 0n,
  perImageQueryNanoUsd: 0n,
  perInputTokenPicoUsd: 0n,
  perOutputTokenPicoUsd: 0n,
};

async function openProvider(overrides: Partial<Connection> = {}) {
  const capabilities = await describeOpenInference(connection());
  return new OpenInferenceProvider(connection(overrides), capabilities, FREE);
}

function request(capabilities: ProviderCapabilities): ScoreRequest {
  return {
    prompts: { kind: 'context', count: 1, values: startContextOf(capabilities) },
    images,
    classes: { names: classNames },
  };
}

describe('describeOpenInference', () => {
  it('reads what the model can do', async () => {
    const capabilities = await describeOpenInference(connection());
    expect(capabilities).toMatchObject({
      promptSpace: 'soft',
      contextTokens: 4,
      contextWidth: 128,
      defaultTemplate: 'a photo of a {}.',
      imageReferences: true,
      maxClassesPerRequest: 4096,
      maxTextsPerRequest: 262_144,
      maxLogitsPerRequest: 16_777_216,
      maxRequestBytes: 256 * 1024 * 1024,
    });
    expect(startContextOf(capabilities)).toHaveLength(512);
  });

  it('names the tensor that the model has not', async () => {
    const settings = openInferenceSettings.parse({ tensors: { logits: 'scores' } });
    const failure = describeOpenInference(connection({ settings }));
    await expect(failure).rejects.toThrow(InvalidRequestError);
    await expect(failure).rejects.toMatchObject({ code: 'provider_tensor_missing', param: 'settings.tensors.logits' });
    await expect(failure).rejects.toThrow(/has: logits/);
  });

  it.each([
    ['a wrong key', { credentials: { type: 'bearer' as const, token: 'no' } }, 'provider_credentials_refused'],
    ['an unknown model', { remoteModel: 'other' }, 'provider_refused_request'],
    ['nobody listening', { baseUrl: 'http://127.0.0.1:1' }, 'provider_unreachable'],
  ])('fails clearly with %s', async (_, overrides, code) => {
    await expect(describeOpenInference(connection(overrides))).rejects.toMatchObject({ code });
  });
});

describe('OpenInferenceProvider', () => {
  it('scores context and template alike, and caps its limits by what the model takes', async () => {
    const provider = await openProvider();
    expect(provider.limits).toMatchObject({
      imagesPerRequest: 1024,
      promptsPerRequest: 256,
      maxRequestBytes: 256 * 1024 * 1024,
    });
    const byContext = await provider.score(request(provider.capabilities));
    const templates = [provider.capabilities.defaultTemplate];
    const byTemplate = await provider.score({
      prompts: { kind: 'template', count: 1, templates },
      images,
      classes: { names: classNames },
    });
    expect(byContext.logits).toHaveLength(8 * 5);
    expect(byContext.billed).toMatchObject({ imageQueries: 8, requests: 1 });
    expect(byTemplate).toEqual(byContext);
    await provider.close();
  });

  it('takes several templates at once, which leave the place of a description empty where there are none', async () => {
    const provider = await openProvider();
    const ask = async (...templates: string[]) => {
      const prompts: Prompts = { kind: 'template', count: templates.length, templates };
      return (await provider.score({ prompts, images, classes: { names: classNames } })).logits;
    };
    const each = [await ask('a {}'), await ask('a photo of a {}.')];
    const together = await ask('a {} {description}', 'a photo of a {}.');
    expect(together).toHaveLength(2 * 8 * 5);
    for (const [i, logit] of together.entries()) expect(logit).toBeCloseTo(each[i < 40 ? 0 : 1][i % 40], 4);
    await provider.close();
  });

  it('completes a template with descriptions itself', async () => {
    const provider = await openProvider();
    const ask = async (template: string, names: string[], descriptions?: (string | null)[]) => {
      const prompts: Prompts = { kind: 'template', count: 1, templates: [template] };
      return (await provider.score({ prompts, images, classes: { names, descriptions } })).logits;
    };
    const descriptions = classNames.map((name, c) => (c === 1 ? null : `like a ${name}`));
    const sentences = classNames.map((name, c) => `a ${name}, ${descriptions[c] ?? ''}`.trim());
    expect(await ask('a {}, {description}', classNames, descriptions)).toEqual(await ask('{}', sentences));
    await provider.close();
  });

  it('sends an image once, and again when the provider has forgotten it', async () => {
    const provider = await openProvider();
    bytesSent = 0;
    const first = await provider.score(request(provider.capabilities));
    expect(bytesSent).toBe(8);
    await provider.score(request(provider.capabilities));
    expect(bytesSent).toBe(8);
    server.usage.reset();
    await fetch(`${server.url}/control/reset`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: '{"caches":true}',
    });
    const refused = await provider.score(request(provider.capabilities)).catch((error: unknown) => error);
    expect(refused).toMatchObject({ code: 'provider_forgot_images', retryable: true });
    expect(await provider.score(request(provider.capabilities))).toEqual(first);
    expect(bytesSent).toBe(16);
    expect(server.usage.report().totals).toMatchObject({ requests: 1, image_queries: 8 });
    await provider.close();
  });

  it.each([
    ['less than was asked for', 3, { imageQueries: 3, requests: 1, costMicroUsd: 0 }],
    ['more, within reason', 16, { imageQueries: 16, requests: 1, costMicroUsd: 0 }],
    ['nonsense', Number.MAX_SAFE_INTEGER, null],
    ['no number', '8', null],
  ])('says what was billed where the answer does: %s', async (_, billed, expected) => {
    const encoded = encodeInferResponse({
      modelName: 'm',
      parameters: { billed_image_queries: billed, billed_requests: 1 },
      outputs: [{ name: 'logits', datatype: 'FP32', shape: [1, 8, 5], data: new Float32Array(40) }],
    });
    expect(await outcomeAgainst(encoded.body, encoded.headers)).toMatchObject({ billed: expected });
  });

  it.each([
    ['the wrong shape', [1, 8, 4], new Float32Array(32)],
    ['NaN', [1, 8, 5], new Float32Array(40).fill(Number.NaN)],
    ['infinity', [1, 8, 5], new Float32Array(40).fill(Number.POSITIVE_INFINITY)],
  ])('refuses logits with %s as billed', async (_, shape, data) => {
    const encoded = encodeInferResponse({
      modelName: 'm',
      outputs: [{ name: 'logits', datatype: 'FP32', shape, data }],
    });
    const error = await scoreAgainst(encoded.body, encoded.headers);
    expect(error).toMatchObject({ code: 'provider_answer_invalid', billing: 'billed', retryable: false });
    expect(error.message).toContain('"box"');
  });

  it.each([
    ['HTML', '<html>'],
    ['no outputs', '{"model_name":"m","outputs":[]}'],
    ['another datatype', '{"model_name":"m","outputs":[{"name":"logits","datatype":"INT32","shape":[1],"data":[1]}]}'],
    ['nothing', ''],
  ])('refuses %s as billed', async (_, body) => {
    const error = await scoreAgainst(Buffer.from(body), {});
    expect(error).toMatchObject({ code: 'provider_answer_invalid', billing: 'billed' });
  });
});

/** What goes wrong with one call to a server that always answers 200 with this body. */
async function scoreAgainst(body: Uint8Array, headers: Record<string, string>): Promise<ProviderCallError> {
  const outcome = await outcomeAgainst(body, headers);
  if (outcome instanceof ProviderCallError) return outcome;
  throw new Error('the answer was accepted');
}

async function outcomeAgainst(body: Uint8Array, headers: Record<string, string>): Promise<unknown> {
  const liar = createServer((_, response) => response.writeHead(200, headers).end(body));
  await new Promise<void>((resolve) => liar.listen(0, '127.0.0.1', resolve));
  const provider = await openProvider({ baseUrl: `http://127.0.0.1:${(liar.address() as AddressInfo).port}` });
  try {
    return await provider.score(request(provider.capabilities)).catch((error: unknown) => error);
  } finally {
    await provider.close();
    liar.closeAllConnections();
    liar.close();
  }
}
