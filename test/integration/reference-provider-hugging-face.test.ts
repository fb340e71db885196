import { InferenceClient } from '@huggingface/inference';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { EmojiClip } from '../../src/reference-provider/emoji-clip.js';
import { type RunningReferenceProvider, startReferenceProvider } from '../../src/reference-provider/start.js';
import { loadExample, MODEL_DIRECTORY } from '../unit/reference-provider/example-images.js';
import {
  base64,
  dataUri,
  failure,
  logitsFor,
  okJson,
  postJson,
  softmax,
} from '../unit/reference-provider/json-client.js';

const LABELS = ['cat face', 'red heart', 'unicorn'];
const PATHS = ['/models/emoji-clip', '/hf-inference/models/emoji-clip', '/'];

let provider: RunningReferenceProvider;
let model: EmojiClip;
let image: Uint8Array;
let other: Uint8Array;

beforeAll(async () => {
  provider = await startReferenceProvider({ modelDirectory: MODEL_DIRECTORY, threads: 1 });
  model = await EmojiClip.load({ modelDirectory: MODEL_DIRECTORY, threads: 1 });
  [image, other] = (await loadExample('fluent-flat-subgroups')).images.values();
});
afterAll(async () => {
  await provider.close();
  await model.close();
});
beforeEach(() => {
  provider.usage.reset();
  provider.misbehaviour.configure({});
});

const body = (parameters: Record<string, unknown> = {}, of = image) => ({
  inputs: base64(of),
  parameters: { candidate_labels: LABELS, ...parameters },
});
const ask = (request: unknown = body(), headers: Record<string, string> = {}, path = PATHS[0]) =>
  postJson(provider.url + path, request, headers);

async function expected(labels = LABELS, template = 'a photo of a {}.') {
  const scores = softmax(await logitsFor(model, image, labels, template));
  return labels
    .map((label, i) => ({ label, score: scores[i] }))
    .sort((a, b) => b.score - a.score)
    .map(({ label, score }) => ({ label, score: expect.closeTo(score, 9) }));
}

describe('zero-shot image classification', () => {
  it.each(PATHS)('answers at %s with the probabilities of the model, highest first', async (path) => {
    expect(await okJson(await ask(body(), {}, path))).toEqual(await expected());
  });

  it('takes the image and the labels in every form', async () => {
    const scores = await expected();
    for (const inputs of [{ image: base64(image) }, dataUri(image), { image: dataUri(image) }]) {
      expect(await okJson(await ask({ ...body(), inputs }))).toEqual(scores);
    }
    expect(await okJson(await ask(body({ candidate_labels: 'cat face, red heart,unicorn' })))).toEqual(scores);
  });

  it('puts the labels into the template that it is given', async () => {
    const template = 'an icon of {} on a desk';
    const scores = await okJson(await ask(body({ hypothesis_template: template })));
    expect(scores).toEqual(await expected(LABELS, template));
    expect(scores).not.toEqual(await expected());
  });

  it('tells images apart', async () => {
    expect(await okJson(await ask(body({}, other)))).not.toEqual(await expected());
  });

  it('counts one request and one image query, once for an idempotency key', async () => {
    const key = { 'idempotency-key': 'k', authorization: 'Bearer alpha' };
    const first = await okJson(await ask(body(), key));
    expect(await okJson(await ask({ ...body(), inputs: dataUri(image) }, key, '/'))).toEqual(first);
    const one = { requests: 1, prompt_evaluations: 1, image_queries: 1, text_embeddings: 0 };
    expect(provider.usage.report('alpha').totals).toEqual(one);
    for (const changed of [
      body({}, other),
      body({ hypothesis_template: '{}' }),
      body({ candidate_labels: ['a', 'b'] }),
    ]) {
      expect((await ask(changed, key)).status).toBe(422);
    }
    expect(provider.usage.report().totals).toEqual(one);
  });
});

describe('refusals', () => {
  it.each<[string, () => unknown, RegExp]>([
    ['no image', () => ({ parameters: { candidate_labels: LABELS } }), /^inputs: /],
    ['a URL', () => ({ ...body(), inputs: 'https://example.com/a.png' }), /^inputs: .*URLs/],
    ['no base64', () => ({ ...body(), inputs: { image: 'a b' } }), /^inputs\.image: is no base64/],
    ['no picture', () => ({ ...body(), inputs: { image: 'AAAA' } }), /^inputs\.image cannot be decoded/],
    ['no labels', () => body({ candidate_labels: [] }), /^parameters\.candidate_labels: /],
    ['an empty label', () => body({ candidate_labels: 'a,,b' }), /^parameters\.candidate_labels\.1: .*1 to 1024/],
    ['labels of another type', () => body({ candidate_labels: 7 }), /^parameters\.candidate_labels: must be a list/],
    ['a template without {}', () => body({ hypothesis_template: 'a' }), /^parameters\.hypothesis_template: .*\{\}/],
    ['no parameters', () => ({ inputs: base64(image) }), /^parameters: /],
    ['broken JSON', () => '{"inputs":', /JSON/],
  ])('400 for %s', async (_, request, message) => {
    expect(await failure(await ask(request()))).toEqual({
      status: 400,
      body: { error: expect.stringMatching(message) },
    });
    expect(provider.usage.report().totals.requests).toBe(0);
  });

  it('404 for another model, 401 for a wrong key', async () => {
    const elsewhere = await ask(body(), {}, '/hf-inference/models/openai/clip-vit-base-patch32');
    expect(await failure(elsewhere)).toEqual({
      status: 404,
      body: { error: 'Model openai/clip-vit-base-patch32 does not exist; there is emoji-clip.' },
    });
    const guarded = await startReferenceProvider({ modelDirectory: MODEL_DIRECTORY, threads: 1, apiKeys: ['right'] });
    try {
      const status = async (path: string, key?: string) => {
        const headers: Record<string, string> = key === undefined ? {} : { authorization: `Bearer ${key}` };
        return failure(await postJson(guarded.url + path, body(), headers));
      };
      for (const path of PATHS) {
        const refused = { status: 401, body: { error: expect.stringContaining('Authorization') } };
        expect(await status(path)).toEqual(refused);
        expect(await status(path, 'wrong')).toEqual(refused);
        expect((await status(path, 'right')).status).toBe(200);
      }
    } finally {
      await guarded.close();
    }
  });
});

describe('misbehaviour', () => {
  const fail = (kind: string, more: object = {}) => provider.misbehaviour.configure({ fail_next: [{ kind, ...more }] });

  it.each([
    [{ retry_after_s: 7 }, 7],
    [{}, 20],
  ])('is loading its model with %j, and bills nothing for it', async (more, seconds) => {
    fail('loading', more);
    const response = await ask();
    expect(response.headers.get('retry-after')).toBeNull();
    expect(await failure(response)).toEqual({
      status: 503,
      body: { error: 'Model emoji-clip is currently loading', estimated_time: seconds },
    });
    expect(provider.usage.report().totals.requests).toBe(0);
    expect((await ask()).status).toBe(200);
  });

  it('says in its own form that there were too many requests', async () => {
    fail('429', { retry_after_s: 3 });
    const response = await ask();
    expect(response.headers.get('retry-after')).toBe('3');
    expect(await failure(response)).toEqual({ status: 429, body: { error: 'Too many requests.' } });
  });

  it.each(['truncate', 'malformed', 'drop_after'])('spoils the body by %s, having counted it', async (kind) => {
    fail(kind);
    await expect(ask().then((response) => response.json())).rejects.toThrow();
    expect(provider.usage.report().totals.requests).toBe(1);
  });

  it('spoils scores and labels, having counted them', async () => {
    const [first, second, third] = await okJson(await ask());
    const spoilt = async (kind: string) => {
      fail(kind);
      return okJson(await ask());
    };
    expect(await spoilt('nan')).toEqual([{ ...first, score: null }, second, third]);
    expect(await spoilt('missing_value')).toEqual([first, second, { label: third.label }]);
    expect(await spoilt('missing_label')).toEqual([first, second]);
    expect(await spoilt('wrong_count')).toEqual([first, second, third, third]);
    expect(provider.usage.report().totals.requests).toBe(5);
  });

  it('gives a retry with the same key the answer that was spoilt, unspoilt and unbilled', async () => {
    fail('missing_label');
    const key = { 'idempotency-key': 'spoilt' };
    expect(await okJson(await ask(body(), key))).toHaveLength(2);
    expect(await okJson(await ask(body(), key))).toEqual(await expected());
    expect(provider.usage.report().totals.requests).toBe(1);
  });
});

describe("Hugging Face's own client", () => {
  const request = () => ({
    inputs: new Blob([image.slice()]),
    parameters: { candidate_labels: LABELS },
  });

  it('classifies at an endpoint', async () => {
    const client = new InferenceClient('any-key', { endpointUrl: provider.url });
    expect(await client.zeroShotImageClassification(request())).toEqual(await expected());
    expect(provider.usage.report('any-key').totals.requests).toBe(1);
  });

  it('classifies at the address of the router, and waits while the model loads', async () => {
    const client = new InferenceClient('any-key', { endpointUrl: `${provider.url}/hf-inference/models/emoji-clip` });
    provider.misbehaviour.configure({ fail_next: [{ kind: 'loading', count: 2 }] });
    expect(await client.zeroShotImageClassification(request())).toEqual(await expected());
    expect(provider.misbehaviour.status().committed).toEqual({ loading: 2 });
    expect(provider.usage.report('any-key').totals.requests).toBe(1);
  });

  it('is told what is wrong', async () => {
    const client = new InferenceClient('any-key', { endpointUrl: provider.url });
    const empty = { ...request(), parameters: { candidate_labels: [] } };
    await expect(client.zeroShotImageClassification(empty)).rejects.toThrow('parameters.candidate_labels');
  });
});
