import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { EmojiClip } from '../../src/reference-provider/emoji-clip.js';
import { type RunningReferenceProvider, startReferenceProvider } from '../../src/reference-provider/start.js';
import { loadExample, MODEL_DIRECTORY } from '../unit/reference-provider/example-images.js';
import { base64, dataUri, failure, logitsFor, okJson, postJson } from '../unit/reference-provider/json-client.js';

const CLASSES = ['cat face', 'red heart', 'unicorn'];
const SENTENCES = CLASSES.map((name) => `a photo of a ${name}.`);
const PATHS = { openai: '/v1/embeddings', cohere: '/v2/embed', voyage: '/v1/multimodalembeddings' };
type Protocol = keyof typeof PATHS;

let provider: RunningReferenceProvider;
let model: EmojiClip;
let images: Uint8Array[];

beforeAll(async () => {
  provider = await startReferenceProvider({ modelDirectory: MODEL_DIRECTORY, threads: 1 });
  model = await EmojiClip.load({ modelDirectory: MODEL_DIRECTORY, threads: 1 });
  images = [...(await loadExample('fluent-flat-subgroups')).images.values()].slice(0, 4);
});
afterAll(async () => {
  await provider.close();
  await model.close();
});
beforeEach(() => {
  provider.usage.reset();
  provider.misbehaviour.configure({});
});

/** The request of each protocol for the same inputs, and its embeddings. */
const REQUESTS: Record<Protocol, (texts: string[], of: Uint8Array[]) => Record<string, unknown>> = {
  openai: (texts, of) => ({
    input: [...texts.map((text) => ({ text })), ...of.map((image) => ({ image: base64(image) }))],
  }),
  cohere: (texts, of) => ({
    input_type: 'classification',
    inputs: [
      ...texts.map((text) => ({ content: [{ type: 'text', text }] })),
      ...of.map((image) => ({ content: [{ type: 'image_url', image_url: { url: dataUri(image) } }] })),
    ],
  }),
  voyage: (texts, of) => ({
    inputs: [
      ...texts.map((text) => ({ content: [{ type: 'text', text }] })),
      ...of.map((image) => ({ content: [{ type: 'image_base64', image_base64: dataUri(image) }] })),
    ],
  }),
};

const post = (protocol: Protocol, request: unknown, headers: Record<string, string> = {}, at = provider.url) =>
  postJson(at + PATHS[protocol], typeof request === 'object' ? { model: 'emoji-clip', ...request } : request, headers);

async function embed(protocol: Protocol, request: unknown, headers: Record<string, string> = {}): Promise<number[][]> {
  const answer = await okJson(await post(protocol, request, headers));
  if (protocol === 'cohere') return answer.embeddings.float;
  return answer.data.map(({ embedding }: { embedding: number[] }) => embedding);
}

const dot = (a: number[], b: number[]) => a.reduce((sum, value, i) => sum + value * b[i], 0);
const EACH = Object.keys(PATHS) as Protocol[];

describe.each(EACH)('embeddings in the form of %s', (protocol) => {
  it('have length 1, and their cosines are the logits of the model', async () => {
    const vectors = await embed(protocol, REQUESTS[protocol](SENTENCES, images));
    expect(vectors).toHaveLength(CLASSES.length + images.length);
    for (const vector of vectors) expect(dot(vector, vector)).toBeCloseTo(1, 5);
    for (const [i, image] of images.entries()) {
      const logits = await logitsFor(model, image, CLASSES, 'a photo of a {}.');
      for (const [c, logit] of logits.entries()) {
        const cosine = dot(vectors[CLASSES.length + i], vectors[c]);
        expect(Math.abs(model.config.logit_scale * cosine - logit)).toBeLessThan(1e-4);
      }
    }
  });

  it('are the same bits alone and together, and in every protocol', async () => {
    const together = await embed(protocol, REQUESTS[protocol](SENTENCES, images));
    await postJson(`${provider.url}/control/reset`, { caches: true });
    const apart: number[][] = [];
    for (const text of SENTENCES) apart.push(...(await embed(protocol, REQUESTS[protocol]([text], []))));
    for (const image of images) apart.push(...(await embed(protocol, REQUESTS[protocol]([], [image]))));
    expect(apart).toEqual(together);
    expect(await embed('openai', REQUESTS.openai(SENTENCES, images))).toEqual(together);
  });

  it('count one request, image queries and text embeddings, once for an idempotency key', async () => {
    const key = { 'idempotency-key': 'k', authorization: 'Bearer alpha' };
    const request = REQUESTS[protocol](SENTENCES, images.slice(0, 2));
    expect(await embed(protocol, request, key)).toEqual(await embed(protocol, request, key));
    expect(provider.usage.report('alpha').totals).toEqual({
      requests: 1,
      prompt_evaluations: 0,
      image_queries: 2,
      text_embeddings: 3,
    });
    expect((await post(protocol, REQUESTS[protocol](SENTENCES, images), key)).status).toBe(422);
    expect(
      (await post(protocol, REQUESTS[protocol](['x', ...SENTENCES.slice(1)], images.slice(0, 2)), key)).status,
    ).toBe(422);
  });

  it('are spoilt on request, having been counted', async () => {
    const request = REQUESTS[protocol](SENTENCES, []);
    const [a, b, c] = await embed(protocol, request);
    const spoilt = (kind: string) => {
      provider.misbehaviour.configure({ fail_next: [{ kind }] });
      return embed(protocol, request);
    };
    expect(await spoilt('nan')).toEqual([[null, ...a.slice(1)], b, c]);
    expect(await spoilt('missing_value')).toEqual([a, b, c.slice(0, -1)]);
    expect((await spoilt('missing_label')).map((vector) => vector ?? 'missing')).toEqual([a, b, 'missing']);
    expect(await spoilt('wrong_count')).toEqual([a, b]);
    expect(provider.usage.report().totals.requests).toBe(5);
    for (const kind of ['truncate', 'malformed']) await expect(spoilt(kind)).rejects.toThrow();
    expect(provider.usage.report().totals.requests).toBe(7);
  });

  it('need the key of the provider', async () => {
    const guarded = await startReferenceProvider({ modelDirectory: MODEL_DIRECTORY, threads: 1, apiKeys: ['right'] });
    try {
      const status = async (headers: Record<string, string>) =>
        (await post(protocol, REQUESTS[protocol](SENTENCES, []), headers, guarded.url)).status;
      expect(await status({ authorization: 'Bearer wrong' })).toBe(401);
      expect(await status({ authorization: 'Bearer right' })).toBe(200);
      expect(await status({ 'api-key': 'right' })).toBe(protocol === 'openai' ? 200 : 401);
    } finally {
      await guarded.close();
    }
  });
});

describe('what goes with the embeddings', () => {
  it('is as OpenAI has it', async () => {
    const answer = await okJson(await post('openai', { input: 'a photo of a cat.' }));
    expect(answer).toEqual({
      object: 'list',
      model: 'emoji-clip',
      data: [{ object: 'embedding', index: 0, embedding: expect.any(Array) }],
      usage: { prompt_tokens: 6, total_tokens: 6 },
    });
    const mixed = await okJson(await post('openai', { input: ['a cat', { image: dataUri(images[0]) }] }));
    expect(mixed.usage).toEqual({ prompt_tokens: 87, total_tokens: 87 });
  });

  it('is as Infinity has it: strings are images where the modality says so', async () => {
    const expected = await embed('openai', REQUESTS.openai([], images));
    expect(await embed('openai', { input: images.map(dataUri), modality: 'image' })).toEqual(expected);
    expect(await embed('openai', { input: dataUri(images[0]), modality: 'image' })).toEqual(expected.slice(0, 1));
  });

  it('is as Cohere has it', async () => {
    const texts = await okJson(await post('cohere', { input_type: 'search_query', texts: SENTENCES }));
    expect(texts).toMatchObject({
      response_type: 'embeddings_by_type',
      texts: SENTENCES,
      meta: { api_version: { version: '2' }, billed_units: { input_tokens: 26, image_tokens: 0, images: 0 } },
    });
    expect(texts.embeddings.float).toEqual(await embed('openai', { input: SENTENCES }));
    const image = await okJson(
      await post('cohere', { input_type: 'image', images: [dataUri(images[0])], embedding_types: ['float', 'base64'] }),
    );
    expect(image.meta.billed_units).toEqual({ input_tokens: 0, image_tokens: 85, images: 1 });
    expect(decoded(image.embeddings.base64[0])).toEqual(image.embeddings.float[0]);
  });

  it('is as Voyage has it', async () => {
    const request = { ...REQUESTS.voyage(SENTENCES, images), input_type: 'query' };
    const answer = await okJson(await post('voyage', request));
    expect(answer).toMatchObject({ object: 'list', model: 'emoji-clip' });
    expect(answer.data.map(({ object, index }: { object: string; index: number }) => [object, index])).toEqual(
      Array.from({ length: 7 }, (_, i) => ['embedding', i]),
    );
    expect(answer.usage).toEqual({ text_tokens: 26, image_pixels: 4 * 48 * 48, total_tokens: 26 + 17 });
    const encoded = await okJson(await post('voyage', { ...request, output_encoding: 'base64' }));
    expect(decoded(encoded.data[6].embedding)).toEqual(answer.data[6].embedding);
  });

  it('can be base64 for OpenAI', async () => {
    const [vector] = await embed('openai', { input: SENTENCES[0] });
    const { data } = await okJson(await post('openai', { input: SENTENCES[0], encoding_format: 'base64' }));
    expect(decoded(data[0].embedding)).toEqual(vector);
  });

  function decoded(base64: string): number[] {
    const bytes = Buffer.from(base64, 'base64');
    return Array.from({ length: bytes.length / 4 }, (_, i) => bytes.readFloatLE(4 * i));
  }
});

describe('refusals', () => {
  const content = (...parts: unknown[]) => ({ content: parts });
  const text = { type: 'text', text: 'a cat' };
  const cases: [Protocol, string, Record<string, unknown>, RegExp][] = [
    ['openai', 'no input', {}, /^input: /],
    ['openai', 'an empty list', { input: [] }, /^input: /],
    ['openai', 'an empty text', { input: ['a', ''] }, /^input\.1: must be a text of 1 to 1024 bytes/],
    ['openai', 'tokens', { input: [1, 2] }, /^input\.0: must be a text/],
    ['openai', 'too many', { input: Array(2049).fill('a') }, /^input: .*2048/],
    ['openai', 'another width', { input: 'a', dimensions: 64 }, /^dimensions: only 128/],
    [
      'openai',
      'an address',
      { input: ['http://example.com/a.png'], modality: 'image' },
      /^input\.0: must be a data URI/,
    ],
    ['openai', 'no picture', { input: ['a', { image: 'AAAA' }] }, /^input\.1\.image cannot be decoded/],
    ['cohere', 'no type', { texts: ['a'] }, /^input_type: /],
    ['cohere', 'nothing', { input_type: 'image' }, /exactly one of/],
    ['cohere', 'two kinds', { input_type: 'image', texts: ['a'], images: ['b'] }, /exactly one of/],
    ['cohere', 'too many', { input_type: 'clustering', texts: Array(97).fill('a') }, /^texts: .*96/],
    ['cohere', 'two images', { input_type: 'image', images: ['a', 'b'] }, /^images: one image/],
    [
      'cohere',
      'bits',
      { input_type: 'clustering', texts: ['a'], embedding_types: ['binary'] },
      /^embedding_types\.0: /,
    ],
    ['cohere', 'a mixture', { input_type: 'image', inputs: [content(text, text)] }, /^inputs\.0\.content: 2 parts/],
    ['voyage', 'no inputs', {}, /^inputs: /],
    ['voyage', 'too many', { inputs: Array(1001).fill(content(text)) }, /^inputs: .*1000/],
    ['voyage', 'a mixture', { inputs: [content(text), content(text, text)] }, /^inputs\.1\.content: 2 parts/],
    [
      'voyage',
      'an address',
      { inputs: [content({ type: 'image_url', image_url: 'x' })] },
      /^inputs\.0\.content\.0.*: must be/,
    ],
  ];

  /** Messages are at another place in each protocol. */
  const messageOf: Record<Protocol, (message: unknown) => unknown> = {
    openai: (message) => ({
      error: { message, type: 'invalid_request_error', param: expect.any(String), code: expect.any(String) },
    }),
    cohere: (message) => ({ message }),
    voyage: (message) => ({ detail: message }),
  };

  it.each(cases)('%s: 400 for %s', async (protocol, _, request, message) => {
    expect(await failure(await post(protocol, request))).toEqual({
      status: 400,
      body: messageOf[protocol](expect.stringMatching(message)),
    });
    expect(provider.usage.report().totals.requests).toBe(0);
  });

  it.each(EACH)('%s: 404 for another model, and errors on request', async (protocol) => {
    const request = REQUESTS[protocol](SENTENCES, []);
    expect(await failure(await post(protocol, { ...request, model: 'other' }))).toEqual({
      status: 404,
      body: messageOf[protocol](expect.stringContaining('`other` does not exist')),
    });
    provider.misbehaviour.configure({ fail_next: [{ kind: '503', retry_after_s: 4 }] });
    const response = await post(protocol, request);
    expect([response.status, response.headers.get('retry-after')]).toEqual([503, '4']);
    expect(JSON.stringify(await response.json())).toContain('The model is not available.');
  });
});
