import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { createServer as createTlsServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, describe, expect, it } from 'vitest';
import type { ProviderCallError } from '../../../src/providers/provider-call-error.js';
import { Transport, type TransportOptions } from '../../../src/providers/transport.js';

const closers: (() => Promise<void> | void)[] = [];
afterEach(async () => {
  for (const close of closers.splice(0).reverse()) await close();
});

async function serve(handler: (request: IncomingMessage, response: ServerResponse) => void): Promise<string> {
  const server: Server = createServer(handler);
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  closers.push(() => {
    server.closeAllConnections();
    server.close();
  });
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}

function open(baseUrl: string, options: Partial<TransportOptions> = {}): Transport {
  const transport = new Transport({
    providerName: 'box',
    baseUrl,
    headers: { authorization: 'Bearer secret-token' },
    requestsPerSecond: null,
    concurrency: 4,
    timeoutMs: 5000,
    maxResponseBytes: 1000,
    unbilledStatuses: [503],
    ...options,
  });
  closers.push(() => transport.close());
  return transport;
}

async function failureOf(call: Promise<unknown>): Promise<ProviderCallError> {
  return call.then(
    () => {
      throw new Error('the call did not fail');
    },
    (error: ProviderCallError) => error,
  );
}

/** A server whose certificate, for `localhost` alone, nobody has signed. */
async function serveWithOwnCertificate(): Promise<number> {
  const folder = mkdtempSync(join(tmpdir(), 'craft-tls-'));
  const [key, cert] = [join(folder, 'key.pem'), join(folder, 'cert.pem')];
  const options = 'req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 1 -subj /CN=localhost';
  execFileSync('openssl', [...options.split(' '), '-keyout', key, '-out', cert], { stdio: 'ignore' });
  const server = createTlsServer({ key: readFileSync(key), cert: readFileSync(cert) }, (_, response) => response.end());
  rmSync(folder, { recursive: true });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  closers.push(() => {
    server.close();
  });
  return (server.address() as AddressInfo).port;
}

const GET = { method: 'GET', path: '/x' } as const;

describe('Transport', () => {
  it('sends the credentials and keeps the base path', async () => {
    const seen: string[] = [];
    const url = await serve((request, response) => {
      seen.push(`${request.url} ${request.headers.authorization}`);
      response.end('ok');
    });
    const answer = await open(`${url}/base/`).send(GET);
    expect(answer.body.toString()).toBe('ok');
    expect(seen).toEqual(['/base/x Bearer secret-token']);
  });

  it.each([
    [429, { code: 'provider_rate_limited', billing: 'unbilled', retryable: true }],
    [503, { code: 'provider_unavailable', billing: 'unbilled', retryable: true }],
    [500, { code: 'provider_unavailable', billing: 'unknown', retryable: true }],
    [401, { code: 'provider_credentials_refused', billing: 'unknown', retryable: false }],
    [400, { code: 'provider_refused_request', billing: 'unknown', retryable: false }],
    [302, { code: 'provider_redirects', billing: 'unknown', retryable: false }],
  ])('maps status %i', async (status, expected) => {
    const url = await serve((_, response) => {
      response.writeHead(status, { 'retry-after': '7', location: 'http://127.0.0.1:1/' }).end('{"error":"its words"}');
    });
    const error = await failureOf(open(url).send(GET));
    expect(error).toMatchObject({ ...expected, status: 502, retryAfterSeconds: 7 });
    expect(error.message).not.toContain('secret-token');
  });

  it('knows that a refused connection was not billed', async () => {
    const error = await failureOf(open('http://127.0.0.1:1').send(GET));
    expect(error).toMatchObject({ code: 'provider_unreachable', billing: 'unbilled', retryable: true });
  });

  it('knows that a failed TLS handshake was not billed, and does not repeat it', async () => {
    const port = await serveWithOwnCertificate();
    const error = await failureOf(open(`https://localhost:${port}`).send(GET));
    expect(error).toMatchObject({ code: 'provider_tls_failed', billing: 'unbilled', retryable: false });
    expect(error.message).toContain('DEPTH_ZERO_SELF_SIGNED_CERT');
    expect(error.message).toContain('NODE_EXTRA_CA_CERTS');
  });

  it('knows that nothing was billed where no TLS is spoken', async () => {
    const url = await serve((_, response) => response.end());
    const error = await failureOf(open(url.replace('http:', 'https:')).send(GET));
    expect(error).toMatchObject({ code: 'provider_tls_failed', billing: 'unbilled', retryable: false });
  });

  it('knows that a request which cannot be written was not billed', async () => {
    const url = await serve((_, response) => response.end());
    const error = await failureOf(open(url, { headers: { 'x-key': 'two\nlines' } }).send(GET));
    expect(error).toMatchObject({ code: 'provider_request_invalid', billing: 'unbilled', retryable: false });
  });

  it('waits on closing for the requests in flight, and sends no others', async () => {
    let served = 0;
    const url = await serve((_, response) => {
      served++;
      setTimeout(() => response.end('late'), 200);
    });
    const transport = open(url, { concurrency: 1 });
    const inFlight = transport.send(GET);
    const waiting = failureOf(transport.send(GET));
    await expect.poll(() => served).toBe(1);
    let closed = false;
    const closing = transport.close().then(() => {
      closed = true;
    });
    expect((await inFlight).body.toString()).toBe('late');
    expect(closed).toBe(false);
    await closing;
    expect(await waiting).toMatchObject({ code: 'provider_closed', billing: 'unbilled', retryable: false });
    expect(await failureOf(transport.send(GET))).toMatchObject({ code: 'provider_closed', billing: 'unbilled' });
    expect(served).toBe(1);
  });

  it('breaks off what is in flight when patience ends, without knowing whether it was billed', async () => {
    let served = 0;
    const url = await serve(() => {
      served++;
    });
    const transport = open(url);
    const inFlight = failureOf(transport.send(GET));
    await expect.poll(() => served).toBe(1);
    await transport.close(50);
    expect(await inFlight).toMatchObject({ code: 'provider_connection_lost', billing: 'unknown' });
  });

  it('frees the connection of an answer that is announced as too large', async () => {
    const url = await serve((request, response) => {
      if (request.url === '/large') response.writeHead(200, { 'content-length': '1001' }).write('begins');
      else response.end('ok');
    });
    const transport = open(url, { concurrency: 1 });
    await failureOf(transport.send({ method: 'GET', path: '/large' }));
    expect((await transport.send(GET)).body.toString()).toBe('ok');
  });

  it('does not know whether a lost connection was billed', async () => {
    const url = await serve((request) => request.socket.destroy());
    const error = await failureOf(open(url).send(GET));
    expect(error).toMatchObject({ code: 'provider_connection_lost', billing: 'unknown', retryable: true });
  });

  it('does not take half an answer for a whole one', async () => {
    const url = await serve((_, response) => {
      response.writeHead(200, { 'content-length': '100' });
      response.write('half', () => response.destroy());
    });
    const error = await failureOf(open(url).send(GET));
    expect(error).toMatchObject({ code: 'provider_connection_lost', billing: 'unknown' });
  });

  it('gives up after the time-out', async () => {
    const url = await serve(() => {});
    const error = await failureOf(open(url, { timeoutMs: 100 }).send(GET));
    expect(error).toMatchObject({ code: 'provider_timeout', billing: 'unknown', retryable: true });
  });

  it.each([true, false])('refuses an answer above the limit (announced: %s)', async (announced) => {
    const url = await serve((_, response) => {
      if (announced) response.setHeader('content-length', '1001');
      response.end(Buffer.alloc(1001));
    });
    const error = await failureOf(open(url).send(GET));
    expect(error).toMatchObject({ code: 'provider_answer_too_large', billing: 'billed', retryable: false });
  });

  it('keeps to the concurrency', async () => {
    let open_ = 0;
    let most = 0;
    const url = await serve((_, response) => {
      most = Math.max(most, ++open_);
      setTimeout(() => {
        open_--;
        response.end();
      }, 10);
    });
    const transport = open(url, { concurrency: 3 });
    await Promise.all(Array.from({ length: 12 }, () => transport.send(GET)));
    expect(most).toBe(3);
  });

  it('does not send what was given up while it waited for its turn', async () => {
    let served = 0;
    const url = await serve((_, response) => {
      served++;
      setTimeout(() => response.end(), 20);
    });
    const transport = open(url, { concurrency: 1 });
    const controller = new AbortController();
    const first = transport.send(GET);
    const second = failureOf(transport.send({ ...GET, signal: controller.signal }));
    controller.abort();
    await first;
    expect(await second).toMatchObject({ code: 'provider_call_aborted', billing: 'unbilled' });
    expect(served).toBe(1);
    await transport.send(GET);
    expect(served).toBe(2);
  });
});

describe('A pause for which the provider asked', () => {
  it('is waited for, until somebody knows that it is over', async () => {
    let asked = 0;
    const url = await serve((_request, response) => {
      asked++;
      if (asked === 1) response.writeHead(429, { 'retry-after': '500' }).end();
      else response.end('ok');
    });
    const transport = open(url);
    expect(await failureOf(transport.send(GET))).toMatchObject({ code: 'provider_rate_limited' });
    const second = transport.send(GET);
    await new Promise((resolve) => setTimeout(resolve, 100));
    expect(asked).toBe(1);
    transport.endHold();
    expect((await second).body.toString()).toBe('ok');
  });
});
