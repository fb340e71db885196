import { type AddressInfo, connect } from 'node:net';
import { text } from 'node:stream/consumers';
import { gzipSync } from 'node:zlib';
import Fastify from 'fastify';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { registerErrorReplies } from '../../../src/http/plugins/error-replies.js';
import { registerBodyRules } from '../../../src/http/plugins/request-bodies.js';

const app = Fastify();

beforeAll(async () => {
  registerErrorReplies(app);
  registerBodyRules(app);
  const tell = async ({ body }: { body: unknown }) => ({ body: body ?? 'none' });
  app.post('/', tell);
  app.delete('/', tell);
  await app.listen({ port: 0, host: '127.0.0.1' });
});
afterAll(() => app.close());

/** The answer to a request with exactly these headers and body. */
async function ask(method: string, headers: string[], body = ''): Promise<{ status: number; body: unknown }> {
  const socket = connect((app.server.address() as AddressInfo).port, '127.0.0.1');
  socket.write([`${method} / HTTP/1.1`, 'Host: a', 'Connection: close', ...headers, '', body].join('\r\n'));
  const [head, answer] = (await text(socket)).split('\r\n\r\n');
  return { status: Number(head.split(' ')[1]), body: JSON.parse(answer) };
}

const JSON_TYPE = 'Content-Type: application/json';

it.each([
  ['POST', ['Content-Length: 0']],
  ['POST', ['Content-Length: 0', JSON_TYPE]],
  ['POST', ['Content-Length: 0', 'Content-Type: application/x-www-form-urlencoded']],
  ['POST', ['Content-Length: 0', 'Content-Type: text/plain']],
  ['POST', [JSON_TYPE]],
  ['DELETE', [JSON_TYPE]],
])('no body is no body: %s with %j', async (method, headers) => {
  expect(await ask(method, headers)).toEqual({ status: 200, body: { body: 'none' } });
});

it('no chunk is no body', async () => {
  expect(await ask('POST', ['Transfer-Encoding: chunked', JSON_TYPE], '0\r\n\r\n')).toEqual({
    status: 200,
    body: { body: 'none' },
  });
});

it('a body is read by its type, and no prototype in it', async () => {
  expect(await ask('POST', ['Content-Length: 9', JSON_TYPE], '{"a": 1 }')).toMatchObject({ body: { body: { a: 1 } } });
  const poisoned = await ask('POST', ['Content-Length: 15', JSON_TYPE], '{"__proto__":1}');
  expect(poisoned).toMatchObject({ status: 400, body: { error: { code: 'invalid_json' } } });
  const other = await ask('POST', ['Content-Length: 1', 'Content-Type: application/xml'], 'x');
  expect(other).toMatchObject({ status: 415, body: { error: { code: 'unsupported_media_type' } } });
});

it('a compressed body is refused with what is taken', async () => {
  const refused = await app.inject({
    method: 'POST',
    url: '/',
    headers: { 'content-type': 'application/json', 'content-encoding': 'gzip' },
    payload: gzipSync('{}'),
  });
  expect(refused.statusCode).toBe(415);
  expect(refused.headers['accept-encoding']).toBe('identity');
  expect(refused.json().error).toMatchObject({ code: 'unsupported_content_encoding', param: 'Content-Encoding' });

  const plain = { 'content-type': 'application/json', 'content-encoding': 'identity' };
  expect((await app.inject({ method: 'POST', url: '/', headers: plain, payload: '{}' })).statusCode).toBe(200);
});
