import { Writable } from 'node:stream';
import { pino } from 'pino';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { rankLabels } from '../../src/adapters/ranking.js';
import { EmojiClip } from '../../src/reference-provider/emoji-clip.js';
import { encodedImage } from '../../src/reference-provider/image-input.js';
import {
  type Counts,
  errorOf,
  exampleImages,
  misbehave,
  ok,
  quickJob,
  servedDuring,
  UNITS,
  uploadImages,
} from '../helpers/api.js';
import { dialectOf, MODEL_DIRECTORY, SUBJECTS, type Subject, subjectRecord } from '../helpers/contract.js';
import { MODEL, PROTOCOLS, type ProtocolName, recordOf, TEMPLATE } from '../helpers/protocols.js';
import { ScriptedServer } from '../helpers/scripted-server.js';
import { type TestService, testService } from '../helpers/service.js';

/** Every protocol as callers of the HTTP API meet it. */

let service: TestService;
let model: EmojiClip;
let scripted: ScriptedServer;
let logged = '';

beforeAll(async () => {
  const lines = new Writable({
    write(chunk, _, done) {
      logged += chunk;
      done();
    },
  });
  service = await testService({}, {}, pino({ level: 'trace' }, lines));
  model = await EmojiClip.load({ modelDirectory: MODEL_DIRECTORY });
  scripted = await ScriptedServer.start();
});

afterAll(async () => {
  await model.close();
  await scripted.close();
});

interface Provider {
  id: string;
  has_credentials: boolean;
  settings: Record<string, unknown>;
  usage: Counts;
}

interface TestAnswer {
  ok: boolean;
  answers: { status: number; latency_ms: number; body: string }[];
  understood: {
    logits: number[];
    predictions: { label: string; score: number }[];
    usage: Counts;
  } | null;
  error: { code: string; message: string; billing: string } | null;
}

const nameOf = (subject: string) => subject.replaceAll(/[^a-z]+/g, '-');

function input(subject: Subject, changes: Record<string, unknown> = {}) {
  return {
    ...subjectRecord(subject, service.provider.url),
    name: nameOf(subject),
    credentials: { type: 'bearer', token: service.providerKey },
    ...changes,
  };
}

/** A record of a protocol with some of its settings changed. */
function withSettings(protocol: ProtocolName, settings: Record<string, unknown>) {
  const record = recordOf(protocol, service.provider.url);
  const credentials = { type: 'bearer', token: service.providerKey };
  return { ...record, credentials, name: 'never', settings: { ...record.settings, ...settings } };
}

const create = (body: unknown) => service.request('POST', '/v1/providers', body);
const usageOf = async (id: string) => (await ok<Provider>(service.request('GET', `/v1/providers/${id}`))).usage;

/** What the ledger counted at a provider, and what the reference provider served, while `work` ran. */
async function counted<Result>(id: string, work: () => Promise<Result>) {
  const before = await usageOf(id);
  const { result, counts } = await servedDuring(service, work);
  const after = await usageOf(id);
  const used = Object.fromEntries(UNITS.map((unit) => [unit, after[unit] - before[unit]])) as Counts;
  return { result, used, served: counts };
}

const test = (id: string, body: Record<string, unknown> = {}) =>
  ok<TestAnswer>(service.request('POST', `/v1/providers/${id}/test`, body));

describe.each(SUBJECTS)('a provider of %s', (subject) => {
  let id: string;
  const requests = dialectOf(subject) === undefined ? 1 : 2;

  beforeAll(async () => {
    id = (await ok<Provider>(create(input(subject)))).id;
  });

  it('is registered with all settings of its protocol, and shows its key nowhere', async () => {
    const one = await service.request('GET', `/v1/providers/${id}`);
    const provider = await ok<Provider>(one);
    expect(provider).toMatchObject({ has_credentials: true, settings: subjectRecord(subject, '').settings });
    expect(provider.settings).toHaveProperty('unbilled_statuses', []);
    const changed = await ok<Provider>(service.request('PATCH', `/v1/providers/${id}`, { limits: { concurrency: 3 } }));
    const list = await ok<unknown>(service.request('GET', '/v1/providers'));
    expect(JSON.stringify([provider, changed, list])).not.toContain(service.providerKey);
  });

  it('answers one test query, which is counted once and at both ends', async () => {
    const { result, used, served } = await counted(id, () => test(id));
    expect(result).toMatchObject({ ok: true, error: null });
    expect(result.answers.map(({ status }) => status)).toEqual(Array(requests).fill(200));
    expect(result.answers.every(({ latency_ms: time, body }) => time >= 0 && body.length > 0)).toBe(true);
    expect(result.understood?.logits).toHaveLength(2);
    expect(result.understood?.predictions.reduce((sum, { score }) => sum + score, 0)).toBeCloseTo(1, 6);
    expect(result.understood?.predictions[0].label).toBe('red circle');
    expect(result.understood?.usage).toMatchObject({ requests, image_queries: 1 });
    expect(used).toMatchObject({ requests, image_queries: 1 });
    expect(served).toMatchObject({ requests, image_queries: 1 });
  });

  it.each([
    ['429', 'provider_rate_limited', 'unbilled', 0],
    ['500', 'provider_unavailable', 'unknown', 0],
    ['malformed', 'provider_answer_invalid', 'billed', 1],
    ['nan', 'provider_answer_invalid', 'billed', 1],
    ['truncate', 'provider_connection_lost', 'unknown', 1],
    ['drop_before', 'provider_connection_lost', 'unknown', 0],
    ['drop_after', 'provider_connection_lost', 'unknown', 1],
  ])('that fails a test query with %s says so', async (kind, code, billing, reached) => {
    await misbehave(service, { fail_next: [{ kind }] });
    const { result, used, served } = await counted(id, () => test(id));
    await misbehave(service);
    expect(result).toMatchObject({ ok: false, understood: null, error: { code, billing } });
    expect(result.error?.message).toContain(`"${nameOf(subject)}"`);
    // Of an embedding provider the first request asks for the image; none follows.
    expect(used).toMatchObject({
      requests: billing === 'unbilled' ? 0 : 1,
      image_queries: billing === 'unbilled' ? 0 : 1,
    });
    expect(served).toMatchObject({ requests: reached, image_queries: reached });
  });

  it('says without training what the model itself says', async () => {
    const labels = ['grinning face', 'red apple', 'größerer Hund', 'a "car", small'];
    const samples = await exampleImages(5, 1, 'test');
    const images = samples.map(({ bytes }) => `data:image/png;base64,${bytes.toString('base64')}`);
    const answer = await ok<{ data: { predictions: { label: string; score: number }[] }[] }>(
      service.request('POST', `/v1/providers/${id}/zero_shot`, {
        images,
        labels,
        template: TEMPLATE,
        top_k: labels.length,
      }),
    );
    const logits = await model.score({
      images: samples.map(({ bytes }) => encodedImage(bytes)),
      classNames: labels,
      prompts: [{ template: TEMPLATE }],
    });
    const expected = rankLabels(logits, labels, labels.length);
    for (const [i, { predictions }] of answer.data.entries()) {
      expect(predictions.map(({ label }) => label)).toEqual(expected[i].map(({ label }) => label));
      for (const [k, { score }] of predictions.entries()) expect(score).toBeCloseTo(expected[i][k].score, 4);
    }
  });

  it('takes new settings of its protocol only, and as a whole', async () => {
    const patch = (settings: unknown) => service.request('PATCH', `/v1/providers/${id}`, { settings });
    const { settings } = subjectRecord(subject, '');
    expect(await errorOf(await patch({ ...settings, unheard_of: 1 }), 400)).toMatchObject({
      code: 'invalid_settings',
      param: 'settings.unheard_of',
    });
    expect(await errorOf(await patch({ ...settings, unbilled_statuses: [200] }), 400)).toMatchObject({
      param: 'settings.unbilled_statuses.0',
    });
    const changed = await ok<Provider>(patch({ ...settings, unbilled_statuses: [418] }));
    expect(changed.settings).toMatchObject({ ...settings, unbilled_statuses: [418] });
    expect((await ok<Provider>(patch(settings))).settings).toMatchObject({ unbilled_statuses: [] });
    expect((await test(id)).ok).toBe(true);
  });
});

describe('settings of a protocol', () => {
  const CUSTOM = { path: '/x', result: { kind: 'logits', scores: '$.s' } };
  it.each<[ProtocolName, Record<string, unknown>, string]>([
    ['open_inference', { tensors: { logits: 'scores' } }, 'settings.tensors.logits'],
    ['open_inference', { tensors: { images: { datatype: 'FP32' } } }, 'settings.tensors.images'],
    ['open_inference', { returns: 'embeddings' }, 'settings.returns'],
    ['open_inference', { soft_prompt: { context_tokens: 0, context_width: 1 } }, 'settings.soft_prompt.context_tokens'],
    ['hugging_face', { max_labels: 1 }, 'settings.max_labels'],
    ['hugging_face', { hypothesis_template: 'no place' }, 'settings.hypothesis_template'],
    ['hugging_face', { score_floor: 0 }, 'settings.score_floor'],
    ['openai_chat', { top_logprobs: 1 }, 'settings.top_logprobs'],
    ['openai_chat', { path: 'chat' }, 'settings.path'],
    ['openai_chat', { image_url: 'https://example.com/' }, 'settings.image_url'],
    ['embeddings', { dialect: 'openai' }, 'settings.dialect'],
    ['embeddings', { texts_per_request: 0 }, 'settings.texts_per_request'],
    ['embeddings', { idempotency: { header: 'Authorization' } }, 'settings.idempotency.header'],
    ['custom_http', { ...CUSTOM, body: { texts: '{{texts}}' } }, 'settings.body'],
    ['custom_http', { ...CUSTOM, body: { image: '{{image_base64}}' } }, 'settings.body'],
    ['custom_http', { ...CUSTOM, body: { image: '{{picture}}', texts: '{{texts}}' } }, 'settings.body'],
    ['custom_http', { result: { kind: 'logits', scores: '$..s' } }, 'settings.result.scores'],
    ['custom_http', { headers: { authorization: 'x' } }, 'settings.headers.authorization'],
  ])('of %s are refused by name: %j', async (protocol, settings, param) => {
    const error = await errorOf(await create(withSettings(protocol, settings)), 400);
    expect(error.param).toBe(param);
    expect(error.message.length).toBeGreaterThan(10);
  });

  it.each(PROTOCOLS)('of another protocol are refused by %s', async (protocol) => {
    const error = await errorOf(await create(withSettings(protocol, { unheard_of: true })), 400);
    expect(error.param).toBe('settings.unheard_of');
  });

  it.each(['POST', 'PATCH'])('may not nest a body without end: %s', async (method) => {
    const nested = `${'['.repeat(50_000)}"{{texts}}"${']'.repeat(50_000)}`;
    const { settings, ...record } = withSettings('custom_http', { ...CUSTOM, body: 'NESTED' });
    const patched = await ok<Provider>(
      create({ ...withSettings('custom_http', {}), name: `nested-${method.toLowerCase()}` }),
    );
    const path = method === 'POST' ? '/v1/providers' : `/v1/providers/${patched.id}`;
    const body = JSON.stringify(method === 'POST' ? { ...record, settings } : { settings });
    const error = await errorOf(await service.request(method, path, body.replace('"NESTED"', nested)), 400);
    expect(error).toMatchObject({ code: 'nested_too_deep', param: expect.stringMatching(/^settings\.body\./) });
  });

  it.each([
    [{ layout: 'CHWN' }, /layout: Invalid option/],
    [{ datatype: 'INT8' }, /datatype: Invalid option/],
    [3, /name, or an object/],
  ])('say what is wrong with the tensor %j', async (images, message) => {
    const error = await errorOf(await create(withSettings('open_inference', { tensors: { images } })), 400);
    expect(error.param).toBe('settings.tensors.images');
    expect(error.message).toMatch(message);
  });
});

describe.each(PROTOCOLS)('the address of a provider of %s', (protocol) => {
  it.each(['http://10.0.0.1', 'http://169.254.169.254/latest', 'http://[fd00::1]:8000'])(
    'may not be %s',
    async (address) => {
      const record = { ...withSettings(protocol, {}), base_url: address };
      const error = await errorOf(await create(record), 400);
      expect(error.param).toBe('base_url');
      expect(error.code).toBe('address_not_allowed');
    },
  );

  it('may not become a private one', async () => {
    const { id } = await ok<Provider>(
      create({ ...input(protocol as Subject), ...withSettings(protocol, {}), name: `moving-${nameOf(protocol)}` }),
    );
    const patch = { base_url: 'http://10.0.0.1', credentials: null };
    const error = await errorOf(await service.request('PATCH', `/v1/providers/${id}`, patch), 400);
    expect(error).toMatchObject({ code: 'address_not_allowed', param: 'base_url' });
  });
});

describe('a key that a provider echoes', () => {
  it.each(PROTOCOLS.filter((protocol) => protocol !== 'open_inference'))(
    'through %s reaches no answer and no log',
    async (protocol) => {
      scripted.play((_, response) => response.writeHead(404).end());
      const record = recordOf(protocol, scripted.url);
      const name = `echo-${nameOf(protocol)}`;
      const credentials = { type: 'bearer', token: service.providerKey };
      const { id } = await ok<Provider>(create({ ...record, name, credentials }));
      for (const status of [200, 401, 500]) {
        scripted.play(({ headers }, response) =>
          response.writeHead(status).end(JSON.stringify({ error: headers.authorization, code: headers.authorization })),
        );
        const result = await test(id);
        expect(result).toMatchObject({ ok: false, answers: [{ status }] });
        expect(JSON.stringify(result)).not.toContain(service.providerKey);
      }
      const labels = ['a', 'b'];
      const [{ bytes }] = await exampleImages(1, 1);
      const images = [`data:image/png;base64,${bytes.toString('base64')}`];
      const zeroShot = await errorOf(
        await service.request('POST', `/v1/providers/${id}/zero_shot`, { images, labels }),
        502,
      );
      expect(JSON.stringify(zeroShot)).not.toContain(service.providerKey);
      expect(logged).toContain('zero_shot');
      expect(logged).not.toContain(service.providerKey);
    },
  );

  it('reaches no event of a job', async () => {
    scripted.play((_, response) => response.writeHead(404).end());
    const credentials = { type: 'bearer', token: service.providerKey };
    await ok(create({ ...recordOf('hugging_face', scripted.url), name: 'echo-job', credentials }));
    scripted.play(({ headers }, response) => response.writeHead(401).end(`no ${headers.authorization}`));
    const file = await uploadImages(service, await exampleImages(2, 2));
    const created = await ok<{ id: string }>(
      service.request('POST', '/v1/fine_tuning/jobs', { ...quickJob(file), model: 'echo-job' }),
    );
    const job = await service.finished(created.id, 'paused');
    expect(job).toMatchObject({ status: 'paused', pause_reason: 'provider_refused' });
    const events = await ok(service.request('GET', `/v1/fine_tuning/jobs/${created.id}/events`));
    expect(JSON.stringify([job, events])).not.toContain(service.providerKey);
    expect(JSON.stringify(events)).toContain('credentials');
    await ok(service.request('POST', `/v1/fine_tuning/jobs/${created.id}/cancel`));
  });
});

it('names the model that every record asks for', () => {
  expect(new Set(SUBJECTS.map((subject) => subjectRecord(subject, '').remote_model))).toEqual(new Set([MODEL]));
});
