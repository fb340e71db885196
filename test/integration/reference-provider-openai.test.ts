import OpenAI from 'openai';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { EmojiClip } from '../../src/reference-provider/emoji-clip.js';
import { type RunningReferenceProvider, startReferenceProvider } from '../../src/reference-provider/start.js';
import { loadExample, MODEL_DIRECTORY } from '../unit/reference-provider/example-images.js';
import { dataUri, failure, logitsFor, okJson, postJson, softmax } from '../unit/reference-provider/json-client.js';

const OPTIONS = ['a photo of a cat face.', 'an icon of a red heart', 'unicorn'];
const QUESTION = `Which is it?\n${OPTIONS.map((text, i) => `${'ABC'[i]}: ${text}`).join('\n')}\nAnswer with one letter.`;

let provider: RunningReferenceProvider;
let model: EmojiClip;
let image: Uint8Array;
let other: Uint8Array;
let probabilities: number[];

beforeAll(async () => {
  provider = await startReferenceProvider({ modelDirectory: MODEL_DIRECTORY, threads: 1 });
  model = await EmojiClip.load({ modelDirectory: MODEL_DIRECTORY, threads: 1 });
  [image, other] = (await loadExample('fluent-flat-subgroups')).images.values();
  probabilities = softmax(await logitsFor(model, image, OPTIONS, '{}'));
});
afterAll(async () => {
  await provider.close();
  await model.close();
});
beforeEach(() => {
  provider.usage.reset();
  provider.misbehaviour.configure({});
});

const text = (value: string) => ({ type: 'text', text: value });
const picture = (of = image) => ({ type: 'image_url', image_url: { url: dataUri(of), detail: 'low' } });
const body = (more: Record<string, unknown> = {}, content: unknown = [text(QUESTION), picture()]) => ({
  model: 'emoji-clip',
  messages: [{ role: 'user', content }],
  ...more,
});
const ask = (request: unknown = body(), headers: Record<string, string> = {}, at = provider.url) =>
  postJson(`${at}/v1/chat/completions`, request, headers);

const ranked = () => [...'ABC'].sort((a, b) => probabilityOf(b) - probabilityOf(a));
const probabilityOf = (key: string) => probabilities['ABC'.indexOf(key)];
const entry = (key: string) => ({
  token: key,
  logprob: expect.closeTo(Math.log(probabilityOf(key)), 6),
  bytes: [key.charCodeAt(0)],
});

describe('chat completions', () => {
  it('answer with the key of the most probable option', async () => {
    const tokens = 85 + model.countTokens(QUESTION);
    expect(tokens).toBeGreaterThan(85 + model.config.text.context_length);
    expect(await okJson(await ask())).toEqual({
      id: expect.stringMatching(/^chatcmpl-/),
      object: 'chat.completion',
      created: expect.any(Number),
      model: 'emoji-clip',
      choices: [
        {
          index: 0,
          message: { role: 'assistant', content: ranked()[0], refusal: null },
          logprobs: null,
          finish_reason: 'stop',
        },
      ],
      usage: { prompt_tokens: tokens, completion_tokens: 1, total_tokens: tokens + 1 },
    });
  });

  it.each([0, 1, 2, 3, 20])('list %d log probabilities at most, highest first', async (top_logprobs) => {
    const { choices } = await okJson(await ask(body({ logprobs: true, top_logprobs, temperature: 0 })));
    expect(choices[0].logprobs).toEqual({
      content: [{ ...entry(ranked()[0]), top_logprobs: ranked().slice(0, top_logprobs).map(entry) }],
      refusal: null,
    });
  });

  it('read the options of every message but the assistant, in every notation', async () => {
    const messages = [
      { role: 'system', content: `a) ${OPTIONS[0]}` },
      { role: 'assistant', content: 'Z: no option' },
      { role: 'user', content: [text(`12. ${OPTIONS[1]}`), picture(), text(`c: ${OPTIONS[2]}`)] },
    ];
    const request = { ...body({ logprobs: true, top_logprobs: 5, max_tokens: 1 }), messages };
    const { choices } = await okJson(await ask(request));
    const keys: Record<string, string> = { A: 'a', B: '12', C: 'c' };
    const listed = choices[0].logprobs.content[0].top_logprobs;
    expect(listed.map(({ token }: { token: string }) => token)).toEqual(ranked().map((key) => keys[key]));
    expect(choices[0].finish_reason).toBe('length');
    expect(listed.find(({ token }: { token: string }) => token === '12').bytes).toEqual([0x31, 0x32]);
  });

  it('count one request and one image query, once for an idempotency key', async () => {
    const key = { 'idempotency-key': 'k', 'api-key': 'azure' };
    await okJson(await ask(body(), key));
    await okJson(await ask(body({ logprobs: true }), key));
    expect(provider.usage.report('azure').totals).toEqual({
      requests: 1,
      prompt_evaluations: 1,
      image_queries: 1,
      text_embeddings: 0,
    });
    const answer = await failure(await ask(body({}, [text(QUESTION), picture(other)]), key));
    expect(answer).toMatchObject({ status: 422, body: { error: { code: 'idempotency_key_reused' } } });
  });
});

describe('refusals', () => {
  it.each<[string, () => unknown, string, string]>([
    ['streaming', () => body({ stream: true }), 'stream', 'stream: answers are not streamed'],
    ['top_logprobs above 20', () => body({ logprobs: true, top_logprobs: 21 }), 'top_logprobs', 'top_logprobs: '],
    ['top_logprobs alone', () => body({ top_logprobs: 2 }), 'top_logprobs', 'top_logprobs: needs logprobs'],
    ['several answers', () => body({ n: 2 }), 'n', 'n: there is one answer'],
    ['no tokens', () => body({ max_tokens: 0 }), 'max_tokens', 'max_tokens: '],
    ['no image', () => body({}, QUESTION), 'messages', 'messages: 0 images'],
    ['two images', () => body({}, [text(QUESTION), picture(), picture()]), 'messages', 'messages: 2 images'],
    ['no options', () => body({}, [text('What?'), picture()]), 'messages', '0 options found'],
    ['no messages', () => ({ model: 'emoji-clip', messages: [] }), 'messages', 'messages: must hold'],
    ['audio', () => body({}, [{ type: 'input_audio' }]), 'messages.0.content', 'messages.0.content: must be'],
    [
      'an address',
      () => body({}, [text(QUESTION), { type: 'image_url', image_url: { url: 'https://example.com/a.png' } }]),
      'messages.0.content.1.image_url.url',
      'messages.0.content.1.image_url.url: must be a data URI',
    ],
    [
      'no picture',
      () => body({}, [text(QUESTION), { type: 'image_url', image_url: { url: 'data:image/png;base64,AAAA' } }]),
      'messages.0.content.1.image_url.url',
      'messages.0.content.1.image_url.url cannot be decoded',
    ],
  ])('400 for %s', async (_, request, param, message) => {
    expect(await failure(await ask(request()))).toEqual({
      status: 400,
      body: {
        error: {
          message: expect.stringContaining(message),
          type: 'invalid_request_error',
          param,
          code: expect.stringMatching(/^invalid_|^unreadable_image$/),
        },
      },
    });
    expect(provider.usage.report().totals.requests).toBe(0);
  });

  it('404 for another model', async () => {
    const refused = {
      status: 404,
      body: {
        error: expect.objectContaining({ code: 'model_not_found', param: 'model', type: 'invalid_request_error' }),
      },
    };
    expect(await failure(await ask(body({ model: 'gpt-4o' })))).toEqual(refused);
    expect(await failure(await fetch(`${provider.url}/v1/models/gpt-4o`))).toEqual(refused);
  });

  it('401 for a wrong key, in either header', async () => {
    const guarded = await startReferenceProvider({ modelDirectory: MODEL_DIRECTORY, threads: 1, apiKeys: ['right'] });
    try {
      const status = async (headers: Record<string, string>) => failure(await ask(body(), headers, guarded.url));
      const refused = { status: 401, body: { error: expect.objectContaining({ code: 'invalid_api_key' }) } };
      expect(await status({})).toEqual(refused);
      expect(await status({ authorization: 'Bearer wrong' })).toEqual(refused);
      expect(await status({ 'api-key': 'wrong' })).toEqual(refused);
      expect((await status({ authorization: 'Bearer right' })).status).toBe(200);
      expect((await status({ 'api-key': 'right' })).status).toBe(200);
      expect((await fetch(`${guarded.url}/v1/models`)).status).toBe(401);
    } finally {
      await guarded.close();
    }
  });
});

describe('misbehaviour', () => {
  const fail = (kind: string) => provider.misbehaviour.configure({ fail_next: [{ kind, retry_after_s: 2 }] });

  it.each([
    ['429', 'requests', 'rate_limit_exceeded', '2'],
    ['500', 'server_error', 'internal_error', null],
    ['503', 'server_error', 'unavailable', '2'],
    ['loading', 'server_error', 'model_loading', null],
  ])('says %s in its own form', async (kind, type, code, retryAfter) => {
    fail(kind);
    const response = await ask();
    expect(response.headers.get('retry-after')).toBe(retryAfter);
    expect(await failure(response)).toEqual({
      status: kind === 'loading' ? 503 : Number(kind),
      body: { error: { message: expect.any(String), type, param: null, code } },
    });
    expect(provider.usage.report().totals.requests).toBe(0);
  });

  it('spoils log probabilities, having counted them', async () => {
    const request = body({ logprobs: true, top_logprobs: 20 });
    const spoilt = async (kind: string) => {
      fail(kind);
      return (await okJson(await ask(request))).choices;
    };
    const [first, second, third] = ranked().map(entry);
    const [nan] = (await spoilt('nan'))[0].logprobs.content;
    expect(nan.logprob).toBeNull();
    expect(nan.top_logprobs).toEqual([{ ...first, logprob: null }, second, third]);
    const [cut] = (await spoilt('missing_label'))[0].logprobs.content;
    expect(cut).toEqual({ ...first, top_logprobs: [first, second] });
    expect((await spoilt('missing_value'))[0].logprobs).toBeNull();
    expect(await spoilt('wrong_count')).toEqual([]);
    expect(provider.usage.report().totals.requests).toBe(4);
  });

  it('spoils the message where it stands alone', async () => {
    fail('missing_value');
    expect((await okJson(await ask())).choices[0].message.content).toBeNull();
    fail('missing_label');
    expect((await okJson(await ask())).choices[0].message.content).toBe('');
  });

  it.each(['truncate', 'malformed', 'drop_after'])('spoils the body by %s, having counted it', async (kind) => {
    fail(kind);
    await expect(ask().then((response) => response.json())).rejects.toThrow();
    expect(provider.usage.report().totals.requests).toBe(1);
  });
});

describe("OpenAI's own client", () => {
  const client = (url = provider.url) => new OpenAI({ apiKey: 'any-key', baseURL: `${url}/v1`, maxRetries: 0 });

  it('lists and retrieves the model', async () => {
    const ids = [];
    for await (const { id } of client().models.list()) ids.push(id);
    expect(ids).toEqual(['emoji-clip']);
    expect((await client().models.retrieve('emoji-clip')).object).toBe('model');
    await expect(client().models.retrieve('other')).rejects.toThrow(OpenAI.NotFoundError);
  });

  it('asks about an image and reads log probabilities', async () => {
    const completion = await client().chat.completions.create({
      model: 'emoji-clip',
      messages: [
        {
          role: 'user',
          content: [
            { type: 'text', text: QUESTION },
            { type: 'image_url', image_url: { url: dataUri(image) } },
          ],
        },
      ],
      max_completion_tokens: 1,
      logprobs: true,
      top_logprobs: 3,
    });
    const top = completion.choices[0].logprobs?.content?.[0].top_logprobs;
    expect(top).toEqual(ranked().map(entry));
    expect(completion.choices[0].message.content).toBe(ranked()[0]);
    expect(provider.usage.report('any-key').totals).toMatchObject({ requests: 1, image_queries: 1 });
  });

  it('embeds texts, whichever encoding it asks for', async () => {
    const embed = async (encoding_format?: 'float') =>
      (await client().embeddings.create({ model: 'emoji-clip', input: OPTIONS, encoding_format })).data;
    const exact = await model.embed(OPTIONS.map((option) => ({ text: option })));
    for (const data of [await embed(), await embed('float')]) {
      expect(data.map(({ index }) => index)).toEqual([0, 1, 2]);
      expect(Float32Array.from(data.flatMap(({ embedding }) => embedding))).toEqual(exact);
    }
    expect(provider.usage.report('any-key').totals).toMatchObject({
      requests: 2,
      text_embeddings: 6,
      image_queries: 0,
    });
  });

  it('is told what is wrong, and retries what may succeed', async () => {
    const wrong = client().embeddings.create({ model: 'emoji-clip', input: [] });
    await expect(wrong).rejects.toThrow(OpenAI.BadRequestError);
    provider.misbehaviour.configure({
      fail_next: [
        { kind: '429', retry_after_s: 0 },
        { kind: '503', retry_after_s: 0 },
      ],
    });
    const patient = new OpenAI({ apiKey: 'any-key', baseURL: `${provider.url}/v1`, maxRetries: 2 });
    expect((await patient.embeddings.create({ model: 'emoji-clip', input: 'a cat' })).data).toHaveLength(1);
    expect(provider.misbehaviour.status().committed).toEqual({ '429': 1, '503': 1 });
  });
});
