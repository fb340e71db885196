import { createServer as createHttpServer, type IncomingMessage, type ServerResponse } from 'node:http';
import { type AddressInfo, createServer } from 'node:net';
import { pino } from 'pino';
import { afterEach, describe, expect, it } from 'vitest';
import { AddressPolicy } from '../../../src/outgoing/address-policy.js';
import type { ProviderCallError } from '../../../src/providers/provider-call-error.js';
import { Transport, type TransportOptions } from '../../../src/providers/transport.js';

const closers: (() => Promise<void> | void)[] = [];
afterEach(async () => {
  for (const close of closers.splice(0).reverse()) await close();
});

const KEY = 'sk-live-0123456789abcdef';
const GET = { method: 'GET', path: '/x' } as const;

type Handler = (request: IncomingMessage, response: ServerResponse) => void;

async function serve(handler: Handler): Promise<{ url: string; served: () => number }> {
  let served = 0;
  const server = createHttpServer((request, response) => {
    served++;
    handler(request, response);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  closers.push(() => {
    server.closeAllConnections();
    server.close();
  });
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, served: () => served };
}

function open(baseUrl: string, options: Partial<TransportOptions> = {}): Transport {
  const transport = new Transport({
    providerName: 'box',
    baseUrl,
    headers: { authorization: `Bearer ${KEY}` },
    requestsPerSecond: null,
    concurrency: 4,
    timeoutMs: 5000,
    maxResponseBytes: 1000,
    unbilledStatuses: [],
    ...options,
  });
  closers.push(() => transport.close());
  return transport;
}

const failureOf = (call: Promise<unknown>) =>
  call.then(
    () => {
      throw new Error('the call did not fail');
    },
    (error: ProviderCallError) => error,
  );

const answering = (status: number, body = '', headers: Record<string, string> = {}): Handler => {
  return (_, response) => response.writeHead(status, headers).end(body);
};

describe('what a status means', () => {
  it.each([
    [400, 'provider_refused_request', false, 'settings'],
    [401, 'provider_credentials_refused', false, 'PATCH /v1/providers'],
    [402, 'provider_payment_required', false, 'Top up'],
    [403, 'provider_credentials_refused', false, 'PATCH /v1/providers'],
    [404, 'provider_refused_request', false, 'base_url and remote_model'],
    [408, 'provider_unavailable', true, 'images_per_request'],
    [409, 'provider_unavailable', true, 'Try again'],
    [413, 'provider_refused_request', false, 'max_request_bytes'],
    [422, 'provider_refused_request', false, 'settings'],
    [425, 'provider_unavailable', true, 'Try again'],
    [429, 'provider_rate_limited', true, 'requests_per_second'],
    [500, 'provider_unavailable', true, 'persists'],
    [503, 'provider_unavailable', true, 'persists'],
    [529, 'provider_unavailable', true, 'persists'],
  ])('%i is %s', async (status, code, retryable, remedy) => {
    const { url } = await serve(answering(status, '{"error":{"message":"its words","code":"its_code"}}'));
    const error = await failureOf(open(url).send(GET));
    expect(error).toMatchObject({ code, retryable, providerCode: 'its_code' });
    expect(error.billing).toBe(status === 429 ? 'unbilled' : 'unknown');
    expect(error.message).toMatch(/^Provider "box" /);
    expect(error.message).toContain(String(status));
    expect(error.message).toContain(remedy);
    expect(error.message).toContain('It said: its words');
  });

  it.each(['insufficient_quota', 'billing_hard_limit_reached'])('a 429 for %s is no rate limit', async (code) => {
    const { url, served } = await serve(answering(429, JSON.stringify({ error: { message: 'no quota', code } })));
    const transport = open(url);
    const error = await failureOf(transport.send(GET));
    expect(error).toMatchObject({ code: 'provider_payment_required', retryable: false, billing: 'unbilled' });
    await failureOf(transport.send({ ...GET, patienceMs: 0 }));
    expect(served()).toBe(2);
  });

  it('a redirect is not followed, and names where to', async () => {
    const elsewhere = await serve(answering(200, 'ok'));
    const { url } = await serve(answering(307, '', { location: `${elsewhere.url}/v1` }));
    const error = await failureOf(open(url).send(GET));
    expect(error).toMatchObject({ code: 'provider_redirects', retryable: false });
    expect(error.message).toContain(`to ${new URL(elsewhere.url).host}`);
    expect(error.message).toContain('base_url');
    expect(elsewhere.served()).toBe(0);
  });

  it('a model that is being loaded says how long', async () => {
    const { url } = await serve(answering(503, '{"error":"Model x is currently loading","estimated_time":20.5}'));
    const error = await failureOf(open(url).send(GET));
    expect(error).toMatchObject({ code: 'provider_unavailable', retryAfterSeconds: 20.5 });
  });
});

describe('a 503 of a provider that bills nothing while a model is loaded', () => {
  it.each([
    ['{"error":"loading","estimated_time":20}', {}, 'unbilled'],
    ['{"error":"overloaded"}', {}, 'unknown'],
    ['{"error":"overloaded","estimated_time":"20"}', {}, 'unknown'],
    ['{"error":"overloaded"}', { unbilledStatuses: [503] }, 'unbilled'],
    ['{"error":"loading","estimated_time":20}', { unbilledWhileLoading: false }, 'unknown'],
  ] satisfies [string, Partial<TransportOptions>, string][])('with %s and %j is %s', async (body, options, billing) => {
    const { url } = await serve(answering(503, body));
    const transport = open(url, { unbilledWhileLoading: true, ...options });
    expect((await failureOf(transport.send(GET))).billing).toBe(billing);
  });
});

describe('backing off', () => {
  it.each([
    [429, '', { 'retry-after': '60' }, 60],
    [429, '', { 'retry-after-ms': '30000' }, 30],
    [429, '', { 'x-ratelimit-reset-requests': '1m0s' }, 60],
    [503, '', { 'retry-after': '60' }, 60],
    [503, '{"estimated_time":40}', {}, 40],
  ])('nothing is sent while a %i with %j and %j lasts', async (status, body, headers, seconds) => {
    const { url, served } = await serve(answering(status, body, headers));
    const transport = open(url);
    expect(await failureOf(transport.send(GET))).toMatchObject({ retryAfterSeconds: seconds });
    const error = await failureOf(transport.send({ ...GET, patienceMs: 1000 }));
    expect(error).toMatchObject({ code: 'provider_rate_limited', billing: 'unbilled', retryable: true });
    expect(error.retryAfterSeconds).toBeGreaterThan(seconds - 5);
    expect(error.retryAfterSeconds).toBeLessThanOrEqual(seconds);
    expect(served()).toBe(1);
  });

  it('holds the next request when an answer says that nothing is left', async () => {
    const headers = { 'x-ratelimit-remaining-requests': '0', 'x-ratelimit-reset-requests': '6m0s' };
    const { url, served } = await serve(answering(200, 'ok', headers));
    const transport = open(url);
    expect((await transport.send(GET)).body.toString()).toBe('ok');
    const held = await failureOf(transport.send({ ...GET, patienceMs: 1000 }));
    expect(held).toMatchObject({ code: 'provider_rate_limited', billing: 'unbilled' });
    expect(held.retryAfterSeconds).toBeGreaterThan(50);
    expect(held.retryAfterSeconds).toBeLessThanOrEqual(60);
    expect(served()).toBe(1);
  });

  it('leaves the next request alone when a failure besides 429 says when limits are full again', async () => {
    const headers = { 'x-ratelimit-remaining-requests': '0', 'x-ratelimit-reset-requests': '6m0s' };
    const { url, served } = await serve(answering(503, '', headers));
    const transport = open(url);
    expect((await failureOf(transport.send(GET))).retryAfterSeconds).toBeUndefined();
    await failureOf(transport.send({ ...GET, patienceMs: 30_000 }));
    expect(served()).toBe(2);
  });

  it('goes on after the pause', async () => {
    let refused = false;
    const { url, served } = await serve((_, response) => {
      if (refused) response.end('ok');
      else response.writeHead(429, { 'retry-after-ms': '50' }).end();
      refused = true;
    });
    const transport = open(url);
    await failureOf(transport.send(GET));
    expect((await transport.send(GET)).body.toString()).toBe('ok');
    expect(served()).toBe(2);
  });

  it('a hold ends with the signal and with closing', async () => {
    const { url, served } = await serve(answering(429, '', { 'retry-after': '600' }));
    const transport = open(url);
    await failureOf(transport.send(GET));
    const controller = new AbortController();
    const aborted = failureOf(transport.send({ ...GET, signal: controller.signal }));
    const closed = failureOf(transport.send(GET));
    controller.abort();
    expect(await aborted).toMatchObject({ code: 'provider_call_aborted', billing: 'unbilled' });
    await transport.close();
    expect(await closed).toMatchObject({ code: 'provider_closed', billing: 'unbilled' });
    expect(served()).toBe(1);
  });

  it('fewer requests are in flight after a push-back', async () => {
    let inFlight = 0;
    let most = 0;
    const { url, served } = await serve((request, response) => {
      if (request.url === '/busy') {
        response.writeHead(429, { 'retry-after-ms': '0' }).end();
        return;
      }
      most = Math.max(most, ++inFlight);
      setTimeout(() => {
        inFlight--;
        response.end();
      }, 20);
    });
    const transport = open(url, { concurrency: 8 });
    await failureOf(transport.send({ method: 'GET', path: '/busy' }));
    await Promise.all(Array.from({ length: 8 }, () => transport.send(GET)));
    expect(most).toBe(4);
    expect(served()).toBe(9);
  });
});

describe('limits of a request', () => {
  it('may be its own for the size of the answer', async () => {
    const { url } = await serve(answering(200, 'x'.repeat(2000)));
    const transport = open(url);
    expect(await failureOf(transport.send(GET))).toMatchObject({ code: 'provider_answer_too_large' });
    expect((await transport.send({ ...GET, maxResponseBytes: 2000 })).body).toHaveLength(2000);
    expect(await failureOf(transport.send({ ...GET, maxResponseBytes: 10 }))).toMatchObject({
      code: 'provider_answer_too_large',
    });
  });

  it('time is counted from when it is sent', async () => {
    const { url } = await serve((request, response) => {
      setTimeout(() => response.end('ok'), request.url === '/slow' ? 800 : 0);
    });
    const transport = open(url, { concurrency: 1, timeoutMs: 2000 });
    const slow = Array.from({ length: 3 }, () => transport.send({ method: 'GET', path: '/slow' }));
    expect((await Promise.all(slow)).map(({ status }) => status)).toEqual([200, 200, 200]);
  });
});

describe('the address policy', () => {
  it('is asked before anything is sent', async () => {
    const { url, served } = await serve(answering(200, 'ok'));
    const error = await failureOf(open(url, { addressPolicy: AddressPolicy.parse('') }).send(GET));
    expect(error).toMatchObject({ code: 'address_not_allowed', billing: 'unbilled', retryable: false });
    expect(error.message).toContain('CRAFT_ALLOWED_NETWORKS');
    expect(served()).toBe(0);
    const allowed = open(url, { addressPolicy: AddressPolicy.parse('').withOrigin(url) });
    expect((await allowed.send(GET)).body.toString()).toBe('ok');
  });
});

describe('credentials', () => {
  const shown = (error: Error) => {
    const lines: string[] = [];
    pino({}, { write: (line: string) => lines.push(line) }).error({ err: error }, 'failed');
    return [...lines, JSON.stringify(error), JSON.stringify(pino.stdSerializers.errWithCause(error))].join('\n');
  };

  it.each([
    ['whole', KEY],
    ['masked', 'sk-live*************cdef'],
    ['cut off', KEY.slice(0, 10)],
    ['in base64', Buffer.from(KEY).toString('base64')],
  ])('do not appear where a provider echoes them %s', async (_, echo) => {
    const { url } = await serve(answering(401, JSON.stringify({ error: { message: `Bad key ${echo}.`, code: echo } })));
    const refused = await failureOf(open(url).send(GET));
    expect(shown(refused)).not.toContain(echo);
    const { url: other } = await serve(answering(400, `Bad key ${echo}.`));
    const quoted = await failureOf(open(other, { headers: { 'x-api-key': KEY } }).send(GET));
    expect(quoted.message).toContain('It said: Bad key [redacted]');
    expect(shown(quoted)).not.toContain(echo);
  });

  it('do not appear in the cause when the answer is no HTTP', async () => {
    const server = createServer((socket) => {
      socket.on('error', () => {});
      socket.once('data', () => socket.end(`HTTP/1.1 2OO ${KEY}\r\n${KEY}\r\n\r\n`));
    });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    closers.push(() => {
      server.close();
    });
    const error = await failureOf(open(`http://127.0.0.1:${(server.address() as AddressInfo).port}`).send(GET));
    expect(error.code).toBe('provider_connection_lost');
    expect(error.cause).toBeInstanceOf(Error);
    expect(shown(error)).not.toContain(KEY);
  });

  it('do not appear where a redirect names them', async () => {
    const { url } = await serve(answering(302, '', { location: `https://${KEY}.example/` }));
    const error = await failureOf(open(url, { secrets: [KEY] }).send(GET));
    expect(shown(error)).not.toContain(KEY);
  });
});
