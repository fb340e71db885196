import Fastify from 'fastify';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { registerUnknownRoutes } from '../../../src/http/plugins/unknown-routes.js';

const app = Fastify({ routerOptions: { ignoreTrailingSlash: true } });

beforeAll(async () => {
  registerUnknownRoutes(app);
  await app.register(
    async (v1) => {
      v1.get('/files', async () => 'files');
      v1.post('/files', async () => 'made');
      v1.delete('/files/:file_id', async () => 'deleted');
      v1.get('/files/:file_id/content', async () => 'content');
      v1.post('/adapters/import', async () => 'imported');
      v1.get('/adapters/:adapter_id', async () => 'adapter');
    },
    { prefix: '/v1' },
  );
});
afterAll(() => app.close());

describe('a path that has routes for other methods', () => {
  it.each([
    ['PUT', '/v1/files', 'GET, HEAD, POST'],
    ['PUT', '/v1/files?purpose=x', 'GET, HEAD, POST'],
    ['PUT', '/v1/files/', 'GET, HEAD, POST'],
    ['GET', '/v1/files/file-1', 'DELETE'],
    ['POST', '/v1/files/file-1/content', 'GET, HEAD'],
    ['DELETE', '/v1/adapters/import', 'GET, HEAD, POST'],
  ])('%s %s answers 405 and which they are', async (method, url, allowed) => {
    const answer = await app.inject({ method: method as 'GET', url });
    expect(answer.statusCode).toBe(405);
    expect(String(answer.headers.allow).split(', ').sort()).toEqual(allowed.split(', '));
    const { error } = answer.json();
    expect(error).toMatchObject({ type: 'invalid_request_error', code: 'method_not_allowed', param: null });
    expect(error.message).toContain(`only ${answer.headers.allow}`);
  });

  it('tells them when it is asked for its options', async () => {
    const answer = await app.inject({ method: 'OPTIONS', url: '/v1/files' });
    expect(answer.statusCode).toBe(204);
    expect(answer.body).toBe('');
    expect(answer.headers.allow).toContain('POST');
  });
});

it.each([
  ['GET', '/v1/nothing'],
  ['OPTIONS', '/v1/nothing'],
  ['PUT', '/v1/files/file-1/content/more'],
  ['GET', '/'],
])('%s %s answers 404', async (method, url) => {
  const answer = await app.inject({ method: method as 'GET', url });
  expect(answer.statusCode).toBe(404);
  expect(answer.headers.allow).toBeUndefined();
  expect(answer.json().error).toMatchObject({ code: 'route_not_found' });
});
