import { EventEmitter } from 'node:events';
import { pino } from 'pino';
import { afterEach, expect, it, vi } from 'vitest';
import { readConfig } from '../../src/config.js';
import { startEmbeddedProvider } from '../../src/embedded-provider.js';

class FakeChild extends EventEmitter {
  constructor(readonly env: NodeJS.ProcessEnv) {
    super();
  }
  pid: number | undefined = 1;
  exitCode: number | null = null;
  signalCode = null;
  connected = true;
  disconnect() {
    this.connected = false;
    this.end(0);
  }
  kill() {
    this.end(1);
  }
  end(code: number) {
    this.exitCode = code;
    this.emit('exit', code, null);
  }
}

const children: FakeChild[] = [];
vi.mock('node:child_process', () => ({
  fork: (_program: string, _arguments: string[], { env }: { env: NodeJS.ProcessEnv }) => {
    const child = new FakeChild(env);
    children.push(child);
    return child;
  },
}));

afterEach(() => {
  vi.useRealTimers();
  children.length = 0;
});

const config = readConfig({ CRAFT_PROVIDER_KEY: 'key' });
const log = pino({ level: 'silent' });

it('survives errors of a child that it started again, and one that cannot be started', async () => {
  vi.useFakeTimers();
  const starting = startEmbeddedProvider(config, log);
  children[0].emit('message', { url: 'http://127.0.0.1:8081' });
  const provider = await starting;

  children[0].end(1);
  vi.advanceTimersByTime(1000);
  expect(children).toHaveLength(2);
  children[1].emit('error', new Error('the channel is closed'));
  vi.advanceTimersByTime(5000);
  expect(children).toHaveLength(2);

  children[1].end(1);
  vi.advanceTimersByTime(1000);
  children[2].pid = undefined;
  children[2].emit('error', new Error('spawn EAGAIN'));
  vi.advanceTimersByTime(1000);
  expect(children).toHaveLength(4);

  await provider.close();
  vi.advanceTimersByTime(5000);
  expect(children).toHaveLength(4);
});

it('starts nothing again when the first start fails', async () => {
  vi.useFakeTimers();
  const starting = startEmbeddedProvider(config, log);
  children[0].end(1);
  await expect(starting).rejects.toThrow('ended with status 1');
  vi.advanceTimersByTime(5000);
  expect(children).toHaveLength(1);
});

it('passes on, also to a child that it starts again, how the provider keeps its books', async () => {
  vi.useFakeTimers();
  const books = readConfig({
    CRAFT_PROVIDER_KEY: 'key',
    CRAFT_PROVIDER_IDEMPOTENCY: 'false',
    CRAFT_PROVIDER_STATE: '/state/usage.jsonl',
  });
  const starting = startEmbeddedProvider(books, log);
  children[0].emit('message', { url: 'http://127.0.0.1:8081' });
  const provider = await starting;
  children[0].end(1);
  vi.advanceTimersByTime(1000);
  expect(children).toHaveLength(2);
  for (const { env } of children) {
    expect(readConfig(env)).toMatchObject({ providerIdempotency: false, providerState: '/state/usage.jsonl' });
  }
  await provider.close();
});
