import { pino } from 'pino';
import { describe, expect, it } from 'vitest';
import { TrustedProxies } from '../../../src/access/trusted-proxies.js';
import { AuthenticationError } from '../../../src/errors.js';
import { buildApp } from '../../../src/http/app.js';
import type { Services } from '../../../src/http/services.js';

/** The application behind these proxies, with the addresses for which it was asked to check a key. */
async function appBehind(proxies: string) {
  const addresses: string[] = [];
  const services = {
    apiKeys: {
      async authenticate(_: string | undefined, address: string) {
        addresses.push(address);
        throw new AuthenticationError({ code: 'invalid_api_key', message: 'no' });
      },
    },
  } as unknown as Services;
  const app = await buildApp(services, {
    version: '0',
    logger: pino({ level: 'silent' }),
    maxUploadBytes: 1,
    maxPredictBytes: 1,
    rateLimitPerMinute: 100,
    corsOrigins: [],
    trustedProxies: TrustedProxies.parse(proxies),
  });
  const ask = (remoteAddress: string, headers: Record<string, string>) =>
    app.inject({ url: '/v1/files', remoteAddress, headers });
  return { app, addresses, ask };
}

describe('the API behind a reverse proxy', () => {
  it('takes callers for those whom a trusted proxy names, and the nearest that is not trusted', async () => {
    const { app, addresses, ask } = await appBehind('10.0.0.0/8');
    await ask('10.0.0.1', { 'x-forwarded-for': '203.0.113.7' });
    await ask('10.0.0.1', { 'x-forwarded-for': '198.51.100.1, 203.0.113.7, 10.0.0.2' });
    await ask('10.0.0.1', {});
    expect(addresses).toEqual(['203.0.113.7', '203.0.113.7', '10.0.0.1']);
    await app.close();
  });

  it.each(['', '10.0.0.0/8'])('believes nobody else (trusting "%s")', async (proxies) => {
    const { app, addresses, ask } = await appBehind(proxies);
    const reply = await ask('192.0.2.1', { 'x-forwarded-for': '203.0.113.7', 'x-request-id': 'mine' });
    expect(addresses).toEqual(['192.0.2.1']);
    expect(reply.headers['x-request-id']).toMatch(/^req-/);
    await app.close();
  });

  it('keeps the request id of a trusted proxy, if it is one', async () => {
    const { app, ask } = await appBehind('10.0.0.1');
    const idFor = async (id: string) => (await ask('10.0.0.1', { 'x-request-id': id })).headers['x-request-id'];
    expect(await idFor('4bf92f3577b34da6')).toBe('4bf92f3577b34da6');
    expect(await idFor('not an id')).toMatch(/^req-/);
    expect(await idFor('a'.repeat(129))).toMatch(/^req-/);
    await app.close();
  });
});
