import Fastify from 'fastify';
import { pino } from 'pino';
import { expect, it } from 'vitest';
import { TrustedProxies } from '../../../src/access/trusted-proxies.js';
import { AuthenticationError } from '../../../src/errors.js';
import { buildApp } from '../../../src/http/app.js';
import { registerCrossOrigin } from '../../../src/http/plugins/cross-origin.js';
import { registerErrorReplies } from '../../../src/http/plugins/error-replies.js';
import type { Services } from '../../../src/http/services.js';

const APP = 'https://app.example.com';

async function appFor(origins: '*' | string[]) {
  const app = Fastify();
  registerErrorReplies(app);
  await registerCrossOrigin(app, origins);
  app.patch('/', async ({ headers }) => {
    if (headers.authorization) return 'changed';
    throw new AuthenticationError({ code: 'missing_api_key', message: 'm' });
  });
  return app;
}

const preflight = (origin: string) => ({
  method: 'OPTIONS' as const,
  url: '/',
  headers: {
    origin,
    'access-control-request-method': 'PATCH',
    'access-control-request-headers': 'authorization,content-type',
  },
});
const call = (origin: string) => ({ method: 'PATCH' as const, url: '/', headers: { origin } });

it('pages of an origin that is named may call, and read what an error says', async () => {
  const app = await appFor(['https://other.example.com', APP]);
  const permission = await app.inject(preflight(APP));
  expect(permission.statusCode).toBe(204);
  expect(permission.headers['access-control-allow-origin']).toBe(APP);
  expect(permission.headers['access-control-allow-methods']).toContain('PATCH');
  expect(permission.headers['access-control-allow-headers']).toContain('authorization');
  const refused = await app.inject(call(APP));
  expect(refused.statusCode).toBe(401);
  expect(refused.headers['access-control-allow-origin']).toBe(APP);
  const exposed = refused.headers['access-control-expose-headers'];
  for (const name of ['retry-after', 'idempotent-replayed']) expect(exposed).toContain(name);
  // Keys are sent by the page itself; what a browser sends by itself is not asked for.
  expect(refused.headers['access-control-allow-credentials']).toBeUndefined();
});

it('pages of other origins may not', async () => {
  const app = await appFor([APP]);
  for (const request of [
    preflight('https://evil.example'),
    call('https://evil.example'),
    call(`${APP}.evil.example`),
  ]) {
    expect((await app.inject(request)).headers['access-control-allow-origin']).toBeUndefined();
  }
});

it('* lets pages of all origins call', async () => {
  const app = await appFor('*');
  expect((await app.inject(preflight('https://any.example'))).headers['access-control-allow-origin']).toBe('*');
});

it('a page reads also why its body was refused before anybody looked at the route', async () => {
  const app = await buildApp({} as Services, {
    version: '0',
    logger: pino({ level: 'silent' }),
    maxUploadBytes: 1,
    maxPredictBytes: 1,
    rateLimitPerMinute: 100,
    corsOrigins: [APP],
    trustedProxies: TrustedProxies.parse(''),
  });
  const headers = { origin: APP, 'content-type': 'application/json', 'content-encoding': 'gzip' };
  const refused = await app.inject({ method: 'POST', url: '/v1/providers', headers, payload: 'x' });
  expect(refused.statusCode).toBe(415);
  expect(refused.headers['access-control-allow-origin']).toBe(APP);
  await app.close();
});

it('without origins nothing is said', async () => {
  const app = await appFor([]);
  const { headers, statusCode } = await app.inject(preflight(APP));
  expect(statusCode).toBe(404);
  expect(Object.keys(headers).filter((name) => name.startsWith('access-control'))).toEqual([]);
});
