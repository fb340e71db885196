import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { describeProvider } from '../../src/providers/protocols.js';
import { errorOf, ok } from '../helpers/api.js';
import { subjectConnection } from '../helpers/contract.js';
import { MODEL, type ProtocolName, recordOf } from '../helpers/protocols.js';
import { ScriptedServer } from '../helpers/scripted-server.js';
import { type TestService, testService } from '../helpers/service.js';

/** What is asked of a provider before it is registered, and what its answers mean. */

let service: TestService;
let scripted: ScriptedServer;
let made = 0;

beforeAll(async () => {
  service = await testService();
  scripted = await ScriptedServer.start();
});

afterAll(() => scripted.close());

const bearer = () => ({ type: 'bearer', token: service.providerKey });

function register(protocol: ProtocolName, changes: Record<string, unknown> = {}) {
  const record = { ...recordOf(protocol, scripted.url), name: `registered-${++made}`, credentials: bearer() };
  return service.request('POST', '/v1/providers', { ...record, ...changes });
}

const listing = (...ids: unknown[]) => JSON.stringify({ object: 'list', data: ids.map((id) => ({ id })) });

describe('registration', () => {
  it.each<[ProtocolName, number, string]>([
    ['open_inference', 401, 'credentials'],
    ['open_inference', 404, 'base_url'],
    ['open_inference', 500, 'base_url'],
    ['openai_chat', 401, 'credentials'],
    ['openai_chat', 500, 'base_url'],
  ])('of %s at a server that answers its first question with %i blames %s', async (protocol, status, param) => {
    scripted.play(({ headers }, response) => response.writeHead(status).end(`no ${headers.authorization}`));
    const error = await errorOf(await register(protocol), 502);
    expect(error.param).toBe(param);
    expect(JSON.stringify(error)).not.toContain(service.providerKey);
    expect(scripted.arrived).toBe(1);
  });

  it.each<ProtocolName>(['hugging_face', 'embeddings', 'custom_http'])('of %s asks nothing', async (protocol) => {
    scripted.play((_, response) => response.writeHead(500).end());
    await ok(register(protocol));
    expect(scripted.arrived).toBe(0);
  });

  it.each(['inputs', 'outputs'])('of open_inference takes no end of %s for an error', async (list) => {
    const body = `{"inputs":[],"outputs":[],"${list}":[${'0,'.repeat(3_500_000)}0]}`;
    scripted.play((_, response) => response.end(body));
    const error = await errorOf(await register('open_inference'), 400);
    expect(error).toMatchObject({ code: 'provider_metadata_invalid', param: 'base_url' });
    expect(error.message).toContain(`${list}: Invalid input`);
    expect(error.message.length).toBeLessThan(600);
  });
});

describe('the models that a server of openai_chat lists', () => {
  it.each([403, 404, 405])('may be kept to itself (%i)', async (status) => {
    scripted.play((_, response) => response.writeHead(status).end());
    await ok(register('openai_chat'));
    expect(scripted.requests).toEqual(['GET /v1/models']);
  });

  it.each([
    ['its name', [MODEL, 'other']],
    ['its name behind a prefix', [`models/${MODEL}`]],
    ['its name behind two', [`models/org/${MODEL}`]],
    ['the newest of its tags', [`${MODEL}:latest`]],
  ])('have %s', async (_, ids) => {
    scripted.play((_, response) => response.end(listing(...ids)));
    await ok(register('openai_chat'));
  });

  it('have the name to which a record adds how it is to be served', async () => {
    scripted.play((_, response) => response.end(listing('org/vlm')));
    await ok(register('openai_chat', { remote_model: 'org/vlm:fastest' }));
  });

  it.each([
    ['no list', '{"models":[]}'],
    ['an empty list', '{"data":[]}'],
    ['a list without names', '{"data":[{"name":"other"}]}'],
    ['null', 'null'],
    ['no JSON', 'hello'],
  ])('are not known where there is %s', async (_, body) => {
    scripted.play((_, response) => response.end(body));
    await ok(register('openai_chat'));
  });

  it('must have the model', async () => {
    const ids = Array.from({ length: 30 }, (_, i) => `other-${i}${MODEL}`);
    scripted.play(({ headers }, response) => response.end(listing(headers.authorization, ...ids, 'x'.repeat(5000))));
    const error = await errorOf(await register('openai_chat'), 400);
    expect(error).toMatchObject({ code: 'provider_model_missing', param: 'remote_model' });
    expect(error.message).toContain(`no model "${MODEL}"`);
    expect(error.message).toContain(`"other-0${MODEL}"`);
    expect(error.message).not.toContain('other-9');
    expect(error.message).not.toContain(service.providerKey);
  });

  it('are asked again when another model is to be called', async () => {
    scripted.play((_, response) => response.end(listing(MODEL, 'new')));
    const { id } = await ok<{ id: string }>(register('openai_chat'));
    const patch = (remote_model: string) => service.request('PATCH', `/v1/providers/${id}`, { remote_model });
    expect(await errorOf(await patch('absent'), 400)).toMatchObject({ param: 'remote_model' });
    await ok(patch('new'));
  });
});

describe('credentials in the query', () => {
  const credentials = { type: 'query', name: 'key', value: 'a b+c/d=é' } as const;
  const encoded = 'key=a+b%2Bc%2Fd%3D%C3%A9';

  it('are sent with the question for models, beside the parameters of the record', async () => {
    scripted.play((_, response) => response.writeHead(404).end());
    const connection = subjectConnection('openai_chat', scripted.url, {
      credentials,
      settings: { query: { 'api-version': '2024-10-21' } },
    });
    await describeProvider(connection);
    expect(scripted.requests).toEqual([`GET /v1/models?api-version=2024-10-21&${encoded}`]);
  });

  it('are sent with the question for metadata', async () => {
    scripted.play((_, response) => response.writeHead(404).end());
    const connection = subjectConnection('open_inference', scripted.url, { credentials });
    await expect(describeProvider(connection)).rejects.toMatchObject({ status: 502 });
    expect(scripted.requests).toEqual([`GET /v2/models/${MODEL}?${encoded}`]);
  });
});

describe('a header that has two uses', () => {
  const header = { type: 'header', name: 'X-Key', value: 'secret' };

  it.each<ProtocolName>(['open_inference', 'hugging_face', 'openai_chat', 'embeddings', 'custom_http'])(
    'is refused by %s before anything is sent',
    async (protocol) => {
      scripted.play((_, response) => response.writeHead(404).end());
      const settings = { ...recordOf(protocol, '').settings, idempotency: { header: 'x-key' } };
      const error = await errorOf(await register(protocol, { credentials: header, settings }), 400);
      expect(error.param).toBe('settings.idempotency.header');
      expect(scripted.arrived).toBe(0);
    },
  );

  it('is refused when new credentials would bring it about', async () => {
    const settings = { ...recordOf('custom_http', '').settings, headers: { 'x-key': 'fixed' } };
    const { id } = await ok<{ id: string }>(register('custom_http', { settings }));
    const changed = await service.request('PATCH', `/v1/providers/${id}`, { credentials: header });
    expect(await errorOf(changed, 400)).toMatchObject({ code: 'provider_header_conflict', param: 'settings.headers' });
  });
});
