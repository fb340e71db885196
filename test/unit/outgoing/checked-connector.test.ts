import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { Agent, request } from 'undici';
import { afterEach, describe, expect, it } from 'vitest';
import { AddressNotAllowedError } from '../../../src/outgoing/address-not-allowed-error.js';
import { AddressPolicy } from '../../../src/outgoing/address-policy.js';
import { checkedConnector } from '../../../src/outgoing/checked-connector.js';
import { checkUrl, type Resolve } from '../../../src/outgoing/resolve-host.js';

const closers: (() => Promise<void> | void)[] = [];
afterEach(async () => {
  for (const close of closers.splice(0).reverse()) await close();
});

async function serve(): Promise<{ port: number; connections: () => number }> {
  let connections = 0;
  const server = createServer((_, response) => response.end('ok'));
  server.on('connection', () => connections++);
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  closers.push(() => {
    server.closeAllConnections();
    server.close();
  });
  return { port: (server.address() as AddressInfo).port, connections: () => connections };
}

function open(list: string, resolve?: Resolve): Agent {
  const agent = new Agent({ connect: checkedConnector(AddressPolicy.parse(list), 5000, resolve) });
  closers.push(() => agent.destroy());
  return agent;
}

/** A resolver whose answers change from one question to the next; the last one stays. */
function resolver(...answers: string[][]) {
  const asked: string[] = [];
  const resolve: Resolve = async (hostname) => {
    const addresses = answers[Math.min(asked.length, answers.length - 1)];
    asked.push(hostname);
    return addresses.map((address) => ({ address, family: address.includes(':') ? 6 : 4 }));
  };
  return { resolve, asked };
}

const failureOf = (call: Promise<unknown>) =>
  call.then(
    () => null,
    (error: unknown) => error,
  );

describe('checkedConnector', () => {
  it('connects to what the policy allows', async () => {
    const { port } = await serve();
    const answer = await request(`http://127.0.0.1:${port}/`, { dispatcher: open(`127.0.0.1:${port}`) });
    expect(await answer.body.text()).toBe('ok');
  });

  it.each([
    '127.0.0.1',
    '127.1',
    '2130706433',
    '0x7f000001',
    '0177.0.0.1',
    '127.0.0.1.',
    '[::ffff:127.0.0.1]',
    '[::1]',
    '0.0.0.0',
    'localhost',
  ])('makes no connection to http://%s', async (host) => {
    const { port, connections } = await serve();
    const error = await failureOf(request(`http://${host}:${port}/`, { dispatcher: open('') }));
    expect(error).toBeInstanceOf(AddressNotAllowedError);
    expect(error).toMatchObject({ code: 'address_not_allowed' });
    expect(connections()).toBe(0);
  });

  it('connects to the very address that it checked', async () => {
    const { port, connections } = await serve();
    const { resolve, asked } = resolver(['127.0.0.1'], ['10.0.0.1']);
    const answer = await request(`http://rebinding.example:${port}/`, { dispatcher: open('127.0.0.1', resolve) });
    expect(await answer.body.text()).toBe('ok');
    expect(asked).toEqual(['rebinding.example']);
    expect(connections()).toBe(1);
  });

  it('checks again when a name has passed before', async () => {
    const { port, connections } = await serve();
    const { resolve } = resolver(['8.8.8.8'], ['127.0.0.1']);
    await checkUrl(`http://rebinding.example:${port}/`, AddressPolicy.parse(''), 'base_url', resolve);
    const error = await failureOf(request(`http://rebinding.example:${port}/`, { dispatcher: open('', resolve) }));
    expect(error).toBeInstanceOf(AddressNotAllowedError);
    expect(connections()).toBe(0);
  });

  it('leaves out the addresses that are not allowed', async () => {
    const { port } = await serve();
    const { resolve } = resolver(['10.255.255.1', 'fd00::1', '127.0.0.1']);
    const answer = await request(`http://mixed.example:${port}/`, { dispatcher: open('loopback', resolve) });
    expect(await answer.body.text()).toBe('ok');
  });

  it('keeps a rule about one port to it', async () => {
    const [one, other] = [await serve(), await serve()];
    const { resolve } = resolver(['127.0.0.1']);
    const agent = open(`box.example:${one.port}`, resolve);
    const answer = await request(`http://box.example:${one.port}/`, { dispatcher: agent });
    expect(await answer.body.text()).toBe('ok');
    const error = await failureOf(request(`http://box.example:${other.port}/`, { dispatcher: agent }));
    expect(error).toBeInstanceOf(AddressNotAllowedError);
    expect(other.connections()).toBe(0);
  });

  it('fails as the resolver does', async () => {
    const resolve: Resolve = async () => {
      throw Object.assign(new Error('no such host'), { code: 'ENOTFOUND', syscall: 'getaddrinfo' });
    };
    expect(await failureOf(request('http://nowhere.example/', { dispatcher: open('', resolve) }))).toMatchObject({
      code: 'ENOTFOUND',
    });
  });
});

describe('checkUrl', () => {
  const check = (url: string, resolve?: Resolve) => checkUrl(url, AddressPolicy.parse(''), 'base_url', resolve);

  it.each(['http://10.0.0.1', 'https://0x0a000001/v1', 'http://[fd00::1]:8000', 'http://localhost:8000'])(
    'refuses %s and names the field',
    async (url) => {
      expect(await failureOf(check(url))).toMatchObject({
        code: 'address_not_allowed',
        param: 'base_url',
        status: 400,
      });
    },
  );

  it('lets public addresses pass', async () => {
    await expect(check('https://8.8.8.8/v1')).resolves.toBeUndefined();
    await expect(check('https://box.example', resolver(['8.8.8.8']).resolve)).resolves.toBeUndefined();
  });

  const failing =
    (code: string): Resolve =>
    async () => {
      throw Object.assign(new Error('not resolved'), { code, syscall: 'getaddrinfo' });
    };

  it('refuses a name that does not exist', async () => {
    expect(await failureOf(check('https://box.example', failing('ENOTFOUND')))).toMatchObject({
      code: 'host_not_found',
      param: 'base_url',
      status: 400,
      message: expect.stringContaining('"box.example"'),
    });
  });

  it('leaves a name that cannot be resolved now to the first connection', async () => {
    await expect(check('https://box.example', failing('EAI_AGAIN'))).resolves.toBeUndefined();
  });
});
