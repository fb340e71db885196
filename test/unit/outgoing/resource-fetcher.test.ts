import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { gzipSync } from 'node:zlib';
import { afterEach, describe, expect, it } from 'vitest';
import { AddressPolicy } from '../../../src/outgoing/address-policy.js';
import { type FetchOptions, ResourceFetcher } from '../../../src/outgoing/resource-fetcher.js';

const closers: (() => Promise<void> | void)[] = [];
afterEach(async () => {
  for (const close of closers.splice(0).reverse()) await close();
});

type Handler = (request: IncomingMessage, response: ServerResponse) => void;

async function serve(handler: Handler): Promise<{ url: string; host: string; paths: string[]; sockets: () => number }> {
  const paths: string[] = [];
  let sockets = 0;
  const server = createServer((request, response) => {
    paths.push(request.url ?? '');
    handler(request, response);
  });
  server.on('connection', () => sockets++);
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  closers.push(() => {
    server.closeAllConnections();
    server.close();
  });
  const host = `127.0.0.1:${(server.address() as AddressInfo).port}`;
  return { url: `http://${host}`, host, paths, sockets: () => sockets };
}

function open(list: string): ResourceFetcher {
  const fetcher = new ResourceFetcher(AddressPolicy.parse(list));
  closers.push(() => fetcher.close());
  return fetcher;
}

const OPTIONS: FetchOptions = { maxBytes: 1000, timeoutMs: 5000 };

async function failureOf(url: string, options: Partial<FetchOptions> = {}, list = 'loopback') {
  return open(list)
    .fetch(url, { ...OPTIONS, ...options })
    .then(
      () => null,
      (error: unknown) => error,
    );
}

describe('ResourceFetcher', () => {
  it('fetches bytes and their media type, uncompressed, over one connection', async () => {
    const asked: unknown[] = [];
    const server = await serve((request, response) => {
      asked.push(request.headers['accept-encoding']);
      response.setHeader('content-type', 'Image/PNG; charset=binary').end(Buffer.from([1, 2, 3]));
    });
    const fetcher = open('loopback');
    const expected = { bytes: Buffer.from([1, 2, 3]), mediaType: 'image/png' };
    expect(await fetcher.fetch(`${server.url}/a?b`, OPTIONS)).toEqual(expected);
    // The connection is free again once its last answer has been dealt with.
    await new Promise((resolve) => setImmediate(resolve));
    expect(await fetcher.fetch(`${server.url}/c`, OPTIONS)).toEqual(expected);
    expect(server.paths).toEqual(['/a?b', '/c']);
    expect(asked).toEqual(['identity', 'identity']);
    expect(server.sockets()).toBe(1);
  });

  it('follows redirects, as many as it is told to', async () => {
    const server = await serve((request, response) => {
      const left = Number(request.url?.slice(1));
      if (left > 0) response.writeHead(302, { location: `/${left - 1}` }).end('elsewhere');
      else response.end('here');
    });
    expect((await open('loopback').fetch(`${server.url}/3`, OPTIONS)).bytes.toString()).toBe('here');
    const error = await failureOf(`${server.url}/4`);
    expect(error).toMatchObject({ code: 'resource_refused', failure: 'refused', status: 400 });
    expect(server.paths).not.toContain('/-1');
    expect(await failureOf(`${server.url}/1`, { maxRedirects: 0 })).toMatchObject({ code: 'resource_refused' });
  });

  it('checks where a redirect leads', async () => {
    const inside = await serve((_, response) => response.end('secret'));
    const outside = await serve((_, response) => response.writeHead(302, { location: inside.url }).end());
    expect(await failureOf(outside.url, {}, outside.host)).toMatchObject({ code: 'address_not_allowed' });
    expect(outside.paths).toEqual(['/']);
    expect(inside.sockets()).toBe(0);
  });

  it.each(['ftp://box/', 'file:///etc/passwd', 'http://user:sesame@127.0.0.1/'])(
    'does not follow to %s',
    async (location) => {
      const server = await serve((_, response) => response.writeHead(301, { location }).end());
      const error = await failureOf(server.url);
      expect(error).toMatchObject({ code: 'resource_refused' });
      expect(String(error)).not.toContain('sesame');
    },
  );

  it.each(['ftp://box/', 'data:text/plain,x', 'http://user@127.0.0.1/', 'no url', 'http://'])(
    'does not fetch %s',
    async (url) => {
      expect(await failureOf(url)).toMatchObject({ code: 'resource_refused' });
    },
  );

  it.each([true, false])('stops at the limit (announced: %s)', async (announced) => {
    const server = await serve((_, response) => {
      if (announced) response.setHeader('content-length', '1001');
      response.end(Buffer.alloc(1001));
    });
    expect(await failureOf(server.url)).toMatchObject({ code: 'resource_too_large', failure: 'too_large' });
    expect((await open('loopback').fetch(server.url, { ...OPTIONS, maxBytes: 1001 })).bytes).toHaveLength(1001);
  });

  it('does not take what is compressed all the same', async () => {
    const server = await serve((_, response) => {
      response.setHeader('content-encoding', 'gzip').end(gzipSync(Buffer.alloc(1e6)));
    });
    expect(await failureOf(server.url, { maxBytes: 1e7 })).toMatchObject({ code: 'resource_refused' });
  });

  it.each([
    [404, 'refused'],
    [401, 'refused'],
    [304, 'refused'],
    [429, 'unreachable'],
    [503, 'unreachable'],
  ])('tells what status %i means', async (status, failure) => {
    const server = await serve((_, response) => response.writeHead(status).end());
    expect(await failureOf(`${server.url}/x?signature=s`)).toMatchObject({ failure });
    expect(String(await failureOf(`${server.url}/x?signature=s`))).not.toContain('signature');
  });

  it('tells when nobody answers', async () => {
    expect(await failureOf('http://127.0.0.1:1/')).toMatchObject({ failure: 'unreachable' });
    const dropped = await serve((request) => request.socket.destroy());
    expect(await failureOf(dropped.url)).toMatchObject({ failure: 'unreachable' });
    const half = await serve((_, response) => {
      response.writeHead(200, { 'content-length': '100' }).write('half', () => response.destroy());
    });
    expect(await failureOf(half.url)).toMatchObject({ failure: 'unreachable' });
  });

  it('gives up after the time for everything, be there ever new bytes', async () => {
    const server = await serve((_, response) => {
      const timer = setInterval(() => response.write('.'), 5);
      response.on('close', () => clearInterval(timer));
    });
    expect(await failureOf(server.url, { timeoutMs: 100 })).toMatchObject({ failure: 'unreachable' });
  });

  it('stops when its caller does', async () => {
    const server = await serve(() => {});
    const controller = new AbortController();
    const failed = failureOf(server.url, { signal: controller.signal });
    await expect.poll(() => server.paths).toEqual(['/']);
    controller.abort(new Error('no longer wanted'));
    expect(await failed).toMatchObject({ message: 'no longer wanted' });
  });
});
