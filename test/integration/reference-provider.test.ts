import { request } from 'node:http';
import sharp from 'sharp';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { encodeInferRequest } from '../../src/formats/open-inference-binary.js';
import { type RunningReferenceProvider, startReferenceProvider } from '../../src/reference-provider/start.js';
import {
  binaryRequest,
  byteTensor,
  encode,
  INFER,
  infer,
  inputs,
  logitsOf,
  post,
  referenceTo,
} from '../unit/reference-provider/client.js';
import { type ExampleDataSet, loadExample, MODEL_DIRECTORY } from '../unit/reference-provider/example-images.js';

const TEMPLATE = 'a photo of a {}.';
const CLASSES = ['cat face', 'red heart', 'unicorn'];

let provider: RunningReferenceProvider;
let flat: ExampleDataSet;
let images: Uint8Array[];
let initialContext: Float32Array;

beforeAll(async () => {
  provider = await startReferenceProvider({ modelDirectory: MODEL_DIRECTORY });
  flat = await loadExample('fluent-flat-subgroups');
  images = [...flat.images.values()].slice(0, 11);
  const { parameters } = await jsonOf(await fetch(`${provider.url}/v2/models/emoji-clip`));
  initialContext = new Float32Array(new Uint8Array(Buffer.from(parameters.prompt.initial_context, 'base64')).buffer);
});

afterAll(() => provider.close());

beforeEach(() => {
  provider.usage.reset();
  provider.misbehaviour.configure({});
});

const control = (path: string, body: unknown = {}) =>
  fetch(`${provider.url}/control/${path}`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify(body),
  });

// biome-ignore lint/suspicious/noExplicitAny: the tests look into answers whose shape they check
const jsonOf = async (response: Response): Promise<any> => response.json();

function contexts(count: number): Float32Array {
  const all = new Float32Array(count * 512);
  for (let i = 0; i < all.length; i++) all[i] = initialContext[i % 512] + 0.1 * Math.sin(i);
  return all;
}

describe('metadata', () => {
  it('describes the server and the model', async () => {
    const get = async (path: string) => jsonOf(await fetch(provider.url + path));
    expect((await get('/v2')).extensions).toEqual(['binary_tensor_data']);
    expect(await get('/v2/health/live')).toEqual({ live: true });
    expect(await get('/v2/health/ready')).toEqual({ ready: true });
    expect((await get('/v2/models/emoji-clip/versions/1/ready')).ready).toBe(true);
    const model = await get('/v2/models/emoji-clip');
    expect(model).toMatchObject({ name: 'emoji-clip', versions: ['1'], parameters: { image_references: 'sha256' } });
    expect(model.parameters.prompt).toMatchObject({ space: 'soft', context_tokens: 4, context_width: 128 });
    expect(await get('/v2/models/emoji-clip/versions/1')).toEqual(model);
    expect((await fetch(`${provider.url}/v2/models/other`)).status).toBe(404);
  });
});

describe('zero-shot accuracy on the test images of seed 1', () => {
  it.each([
    ['fluent-contrast-subgroups', 27.7],
    ['fluent-flat-subgroups', 69.56],
  ])('%s: %d %%', async (name, expected) => {
    const data = await loadExample(name);
    const { test } = data.splits['seed-1'];
    const classNames = data.classes.map((entry) => entry.name);
    const testImages = test.map((path) => data.images.get(path) as Uint8Array);
    const byTemplate = await infer(provider.url, inputs(testImages, classNames, [TEMPLATE]));
    expect(byTemplate.shape).toEqual([1, test.length, classNames.length]);
    const right = test.filter((path, i) => {
      const row = byTemplate.data.subarray(i * classNames.length, (i + 1) * classNames.length);
      return data.classes[row.indexOf(Math.max(...row))].folder === path.split('/')[0];
    });
    expect(((100 * right.length) / test.length).toFixed(2)).toBe(expected.toFixed(2));
    const byContext = await infer(provider.url, inputs(testImages.map(referenceTo), classNames, initialContext));
    expect(byContext).toEqual(byTemplate);
  });
});

describe('inference', () => {
  it('answers the same in JSON and in binary', async () => {
    const tensors = inputs(images, CLASSES, [TEMPLATE]);
    const binary = await infer(provider.url, tensors);
    const json = {
      id: 'abc',
      inputs: [
        {
          name: 'images',
          datatype: 'BYTES',
          shape: [images.length],
          parameters: { content_type: 'base64' },
          data: images.map((image) => Buffer.from(image).toString('base64')),
        },
        { name: 'class_names', datatype: 'BYTES', shape: [3], data: CLASSES },
        { name: 'template', datatype: 'BYTES', shape: [1], data: [TEMPLATE] },
      ],
    };
    const response = await fetch(`${provider.url}/v2/models/emoji-clip/versions/1/infer`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify(json),
    });
    expect(response.headers.get('content-type')).toContain('application/json');
    expect((await jsonOf(response.clone())).id).toBe('abc');
    expect(await logitsOf(response)).toMatchObject({ shape: binary.shape, data: binary.data });
    const mixed = encodeInferRequest({
      parameters: { binary_data_output: true },
      inputs: tensors,
      outputs: [{ name: 'logits', parameters: { binary_data: false } }],
    });
    const asked = await post(provider.url, mixed);
    expect(asked.headers.get('inference-header-content-length')).toBeNull();
    expect((await logitsOf(asked)).data).toEqual(binary.data);
  });

  it('gives the same bits however prompts and images are divided among requests', async () => {
    const prompts = contexts(5);
    const together = await infer(provider.url, inputs(images, CLASSES, prompts));
    await control('reset', { caches: true });
    const parts = await Promise.all(
      [0, 1, 2, 3, 4].flatMap((p) =>
        [...images.keys()].map((i) =>
          infer(provider.url, inputs([images[i]], CLASSES, prompts.subarray(p * 512, (p + 1) * 512))),
        ),
      ),
    );
    expect(parts.flatMap((part) => [...part.data])).toEqual([...together.data]);
    const backwards = await infer(provider.url, inputs([...images].reverse(), CLASSES, prompts.subarray(512)));
    const row = (data: Float32Array, p: number, i: number) => [
      ...data.subarray((p * 11 + i) * 3, (p * 11 + i + 1) * 3),
    ];
    for (let p = 1; p < 5; p++) {
      for (let i = 0; i < 11; i++) expect(row(backwards.data, p - 1, 10 - i)).toEqual(row(together.data, p, i));
    }
  });

  it('gives the same bits to templates of different lengths, alone and together', async () => {
    const templates = ['{}', 'a very long template of many words about {}', TEMPLATE];
    const together = await infer(provider.url, inputs(images, CLASSES, templates));
    await control('reset', { caches: true });
    const apart = await Promise.all(templates.map((t) => infer(provider.url, inputs(images, CLASSES, [t]))));
    expect(apart.flatMap((part) => [...part.data])).toEqual([...together.data]);
    expect(apart[0].data).not.toEqual(apart[2].data);
  });

  it('reads JPEG, WebP and GIF, and flattens transparency on white', async () => {
    const red = { r: 220, g: 30, b: 40 };
    const solid = sharp({ create: { width: 64, height: 64, channels: 3, background: red } });
    const half = {
      create: { width: 64, height: 64, channels: 4 as const, background: { r: 0, g: 0, b: 0, alpha: 0 } },
    };
    const white = { create: { width: 9, height: 5, channels: 3 as const, background: '#fff' } };
    const encoded = await Promise.all([
      solid.clone().png().toBuffer(),
      solid.clone().jpeg({ quality: 100 }).toBuffer(),
      solid.clone().webp({ lossless: true }).toBuffer(),
      solid.clone().gif().toBuffer(),
      sharp(half).png().toBuffer(),
      sharp(white).toColourspace('b-w').png().toBuffer(),
    ]);
    const { data } = await infer(provider.url, inputs(encoded, CLASSES, [TEMPLATE]));
    for (let i = 1; i < 4; i++) for (let c = 0; c < 3; c++) expect(data[i * 3 + c]).toBeCloseTo(data[c], 0);
    expect([...data.subarray(15)]).toEqual([...data.subarray(12, 15)]);
    expect(data[12]).not.toBeCloseTo(data[0], 1);
  });

  it('names the references it does not know, and counts nothing for them', async () => {
    await control('reset', { caches: true });
    const references = images.map(referenceTo);
    await infer(provider.url, inputs(images.slice(0, 2), CLASSES, [TEMPLATE]));
    const response = await post(provider.url, binaryRequest(inputs(references, CLASSES, [TEMPLATE])));
    expect(response.status).toBe(404);
    const text = new TextDecoder();
    expect(await jsonOf(response)).toMatchObject({
      code: 'unknown_images',
      missing: references.slice(2).map((reference) => text.decode(reference)),
    });
    expect(provider.usage.report().totals.requests).toBe(1);
    const both = [referenceTo(images[3]), images[3]];
    expect((await infer(provider.url, inputs(both, CLASSES, [TEMPLATE]))).shape).toEqual([1, 2, 3]);
  });
});

describe('accounting', () => {
  it('counts prompts and pairs by key', async () => {
    const request = binaryRequest(inputs(images, CLASSES, contexts(4)));
    await post(provider.url, request, { headers: { authorization: 'Bearer alpha' } });
    await post(provider.url, request, { headers: { authorization: 'Bearer alpha' } });
    await post(provider.url, request);
    const usage = async (query = '') => jsonOf(await fetch(`${provider.url}/control/usage${query}`));
    expect((await usage('?key=alpha')).totals).toEqual({
      requests: 2,
      prompt_evaluations: 8,
      image_queries: 88,
      text_embeddings: 0,
    });
    expect((await usage()).totals).toEqual({
      requests: 3,
      prompt_evaluations: 12,
      image_queries: 132,
      text_embeddings: 0,
    });
    expect((await usage()).keys.anonymous.prompt_evaluations).toBe(4);
    await control('reset');
    expect((await usage()).totals.requests).toBe(0);
  });

  it('asks for keys where keys are set', async () => {
    const guarded = await startReferenceProvider({
      modelDirectory: MODEL_DIRECTORY,
      apiKeys: ['model-key'],
      controlKey: 'control-key',
      threads: 1,
    });
    try {
      const status = async (path: string, key?: string) =>
        (await fetch(guarded.url + path, { headers: key === undefined ? {} : { authorization: `Bearer ${key}` } }))
          .status;
      expect(await status('/v2/health/live')).toBe(200);
      expect(await status('/v2/models/emoji-clip')).toBe(401);
      expect(await status('/v2/models/emoji-clip', 'control-key')).toBe(401);
      expect(await status('/v2/models/emoji-clip', 'model-key')).toBe(200);
      expect(await status('/control/usage', 'model-key')).toBe(401);
      expect(await status('/control/usage', 'control-key')).toBe(200);
      const request = binaryRequest(inputs(images, CLASSES, [TEMPLATE]));
      expect((await post(guarded.url, request)).status).toBe(401);
      expect((await post(guarded.url, request, { headers: { authorization: 'Bearer model-key' } })).status).toBe(200);
      expect(guarded.usage.report('model-key').totals.requests).toBe(1);
    } finally {
      await guarded.close();
    }
  });
});

describe('misbehaviour', () => {
  const score = () => post(provider.url, binaryRequest(inputs(images.slice(0, 2), CLASSES, [TEMPLATE])));
  const served = () => provider.usage.report().totals.requests;

  it.each([
    ['429', 429],
    ['500', 500],
    ['503', 503],
    ['loading', 503],
  ])('fails %s before anything is served', async (kind, status) => {
    await control('misbehave', { fail_next: [{ kind, retry_after_s: 3 }, { kind }] });
    const first = await score();
    expect(first.status).toBe(status);
    expect(first.headers.get('retry-after')).toBe(['500', 'loading'].includes(kind) ? null : '3');
    expect(typeof (await jsonOf(first)).error).toBe('string');
    expect((await score()).headers.get('retry-after')).toBeNull();
    expect(served()).toBe(0);
    expect((await score()).status).toBe(200);
    expect(served()).toBe(1);
  });

  it.each([
    ['drop_before', 0],
    ['drop_after', 1],
  ])('%s breaks the connection having served %d', async (kind, count) => {
    await control('misbehave', { fail_next: [{ kind }] });
    await expect(score()).rejects.toThrow();
    expect(served()).toBe(count);
    expect((await score()).status).toBe(200);
  });

  it('truncates an answer that it has counted', async () => {
    await control('misbehave', { fail_next: [{ kind: 'truncate' }] });
    const response = await score();
    expect(response.status).toBe(200);
    await expect(response.arrayBuffer()).rejects.toThrow();
    expect(served()).toBe(1);
  });

  it('sends nonsense for an answer that it has counted', async () => {
    await control('misbehave', { fail_next: [{ kind: 'malformed' }] });
    const response = await score();
    expect(response.status).toBe(200);
    await expect(logitsOf(response)).rejects.toThrow('Inference-Header-Content-Length');
    expect(served()).toBe(1);
  });

  it.each(['binary', 'JSON'])('spoils what an answer says, in %s, having counted it', async (form) => {
    const tensors = inputs(images.slice(0, 2), CLASSES, [TEMPLATE]);
    const spoilt = async (kind: string) => {
      await control('misbehave', { fail_next: [{ kind }] });
      const response = await post(
        provider.url,
        form === 'binary' ? binaryRequest(tensors) : encodeInferRequest({ inputs: tensors }),
      );
      return response;
    };
    const right = await infer(provider.url, tensors);
    if (form === 'binary') {
      expect((await logitsOf(await spoilt('nan'))).data).toEqual(Float32Array.of(Number.NaN, ...right.data.slice(1)));
    } else {
      expect((await jsonOf(await spoilt('nan'))).outputs[0].data).toEqual([null, ...right.data.slice(1)]);
    }
    await expect(logitsOf(await spoilt('missing_value'))).rejects.toThrow('"outputs" must be');
    expect((await logitsOf(await spoilt('missing_label'))).shape).toEqual([1, 2, 2]);
    expect((await logitsOf(await spoilt('wrong_count'))).shape).toEqual([1, 1, 3]);
    expect(served()).toBe(5);
    expect(await infer(provider.url, tensors)).toEqual(right);
  });

  it('hangs until the client gives up', async () => {
    await control('misbehave', { fail_next: [{ kind: 'hang' }] });
    const body = binaryRequest(inputs(images.slice(0, 2), CLASSES, [TEMPLATE]));
    const patience = new AbortController();
    const hung = post(provider.url, body, { signal: patience.signal });
    await expect.poll(() => provider.misbehaviour.status().committed.hang).toBe(1);
    patience.abort(new Error('no patience left'));
    await expect(hung).rejects.toThrow('no patience left');
    expect(served()).toBe(0);
    expect((await score()).status).toBe(200);
  });

  it('is slow, and limits the rate', async () => {
    await control('misbehave', { latency_ms: 200, requests_per_second: 0.01 });
    const start = performance.now();
    expect((await score()).status).toBe(200);
    expect(performance.now() - start).toBeGreaterThan(195);
    const limited = await score();
    expect(limited.status).toBe(429);
    expect(Number(limited.headers.get('retry-after'))).toBeGreaterThan(90);
    const status = await (await fetch(`${provider.url}/control/misbehave`)).json();
    expect(status).toMatchObject({ latency_ms: 200, committed: { '429': 1 } });
  });

  it('says what is wrong with a plan', async () => {
    const response = await control('misbehave', { fail_next: [{ kind: 'nap' }] });
    expect(response.status).toBe(400);
    expect((await jsonOf(response)).error).toMatch(/^fail_next\.0\.kind: /);
  });
});

describe('closing', () => {
  it('finishes what it has been asked and ends what hangs on purpose', async () => {
    const closing = await startReferenceProvider({ modelDirectory: MODEL_DIRECTORY, threads: 1 });
    closing.misbehaviour.configure({ fail_next: [{ kind: 'hang' }], hold_after: 1 });
    const body = binaryRequest(inputs(images, CLASSES, contexts(200)));
    const hung = post(closing.url, body).catch((error: Error) => error);
    await expect.poll(() => closing.misbehaviour.status().committed.hang).toBe(1);
    const answered = post(closing.url, body);
    await expect.poll(() => closing.misbehaviour.status().held).toBe(1);
    await closing.close();
    expect(await hung).toBeInstanceOf(Error);
    expect((await logitsOf(await answered)).shape).toEqual([200, 11, 3]);
    await expect(fetch(`${closing.url}/v2`)).rejects.toThrow();
  });
});

describe('malformed requests', () => {
  const json = (body: unknown) => ({
    headers: { 'content-type': 'application/json' },
    body: encode(typeof body === 'string' ? body : JSON.stringify(body)),
  });
  const names = byteTensor('class_names', CLASSES.map(encode));
  const template = byteTensor('template', [encode(TEMPLATE)]);
  const image = () => byteTensor('images', [images[0]]);
  const svg = encode('<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>');
  const context = (shape: number[], fill = 0) => ({
    name: 'context',
    datatype: 'FP32' as const,
    shape,
    data: new Float32Array(shape.reduce((a, b) => a * b, 1)).fill(fill),
  });

  it.each<[string, RegExp, () => Parameters<typeof post>[1]]>([
    ['no body', /JSON/, () => json('')],
    ['broken JSON', /not valid JSON/, () => json('{"inputs":')],
    ['no class names', /"class_names" is missing/, () => binaryRequest([template, image()])],
    ['one class', /class_names: 1 given/, () => binaryRequest([template, image(), byteTensor('class_names', [svg])])],
    ['no images', /images: 0 given/, () => binaryRequest([template, names, byteTensor('images', [])])],
    ['no prompt', /exactly one of/, () => binaryRequest([names, image()])],
    ['two prompts', /exactly one of/, () => binaryRequest([names, image(), template, context([1, 4, 128])])],
    ['a wrong context', /shape must be/, () => binaryRequest([names, image(), context([1, 128, 4])])],
    ['an infinite context', /finite/, () => binaryRequest([names, image(), context([1, 4, 128], Infinity)])],
    ['a template without {}', /\{\}/, () => binaryRequest([names, image(), byteTensor('template', [encode('a')])])],
    ['a template with two {}', /\{\}/, () => binaryRequest([names, image(), byteTensor('template', [encode('{}{}')])])],
    [
      'an SVG',
      /images\[1\] cannot be decoded/,
      () => binaryRequest([names, template, byteTensor('images', [images[0], svg])]),
    ],
    [
      'a broken PNG',
      /cannot be decoded/,
      () => binaryRequest([names, template, byteTensor('images', [images[0].slice(0, 99)])]),
    ],
    ['a bad reference', /sha256/, () => binaryRequest([names, template, byteTensor('images', [encode('sha256:12')])])],
    [
      'an unknown input',
      /no input called "y"/,
      () => binaryRequest([names, template, image(), byteTensor('y', [svg])]),
    ],
    [
      'numbers for images',
      /must be BYTES/,
      () => binaryRequest([names, template, { ...context([1]), name: 'images' }]),
    ],
    [
      'an unknown output',
      /no output called/,
      () => encodeInferRequest({ inputs: inputs(images, CLASSES, [TEMPLATE]), outputs: [{ name: 'y' }] }),
    ],
    [
      'too many logits',
      /16777216 fit/,
      () =>
        binaryRequest([
          context([256, 4, 128]),
          byteTensor('class_names', Array(1024).fill(svg)),
          byteTensor('images', Array(65).fill(images[0])),
        ]),
    ],
    [
      'a header length that is wrong',
      /body has only/,
      () => ({ headers: { 'inference-header-content-length': '99' }, body: encode('{}') }),
    ],
  ])('400 for %s', async (_, message, body) => {
    const response = await post(provider.url, body());
    expect(response.status).toBe(400);
    expect((await jsonOf(response)).error).toMatch(message);
    expect(provider.usage.report().totals.requests).toBe(0);
  });

  it('refuses a body that is too large and keeps serving', async () => {
    const answered = new Promise<number | undefined>((resolve, reject) => {
      const headers = { 'content-type': 'application/octet-stream', 'content-length': 256 * 1024 * 1024 + 1 };
      const upload = request(provider.url + INFER, { method: 'POST', headers }, (response) => {
        resolve(response.statusCode);
        upload.destroy();
      });
      upload.on('error', reject);
      upload.flushHeaders();
    });
    expect(await answered).toBe(413);
    expect((await infer(provider.url, inputs(images, CLASSES, [TEMPLATE]))).shape).toEqual([1, 11, 3]);
  });
});
