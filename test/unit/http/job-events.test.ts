import { type AddressInfo, connect } from 'node:net';
import Fastify from 'fastify';
import { serializerCompiler, validatorCompiler, type ZodTypeProvider } from 'fastify-type-provider-zod';
import { afterEach, describe, expect, it } from 'vitest';
import { jobEventRoutes } from '../../../src/http/routes/job-events.js';
import type { Services } from '../../../src/http/services.js';

const closers: (() => unknown)[] = [];
afterEach(async () => {
  for (const close of closers.splice(0)) await close();
});

const EVENTS = 100_000;

/** The route on a job with more events than any socket holds. */
async function start() {
  let read = 0;
  const services = {
    jobQueries: {
      status: async () => 'succeeded',
      async eventsSince(_: string, after: bigint, limit: number) {
        const count = Math.min(limit, EVENTS - Number(after));
        read += count;
        return Array.from({ length: count }, (_, i) => ({
          id: after + BigInt(i + 1),
          jobId: 'ftjob-1',
          createdAt: new Date(0),
          level: 'info',
          type: 'message',
          message: 'x'.repeat(1000),
          data: null,
        }));
      },
    },
    events: { subscribe: () => ({ next: async () => {}, close() {} }) },
  } as unknown as Services;
  const app = Fastify({ forceCloseConnections: 'idle' }).withTypeProvider<ZodTypeProvider>();
  app.setValidatorCompiler(validatorCompiler).setSerializerCompiler(serializerCompiler);
  await app.register(jobEventRoutes, { services });
  await app.listen({ port: 0, host: '127.0.0.1' });
  closers.push(() => app.close());
  const { port } = app.server.address() as AddressInfo;
  const socket = connect(port, '127.0.0.1');
  closers.push(() => socket.destroy());
  socket.write('GET /fine_tuning/jobs/ftjob-1/events HTTP/1.1\r\nhost: x\r\naccept: text/event-stream\r\n\r\n');
  return { app, socket, read: () => read };
}

async function untilStill(value: () => number): Promise<number> {
  for (let last = -1; ; ) {
    await new Promise((resolve) => setTimeout(resolve, 200));
    if (value() === last) return last;
    last = value();
  }
}

describe('an event stream', () => {
  it('tells its headers and nothing else when only they are asked for', async () => {
    const { app, read } = await start();
    const before = await untilStill(read);
    const { port } = app.server.address() as AddressInfo;
    const answer = await fetch(`http://127.0.0.1:${port}/fine_tuning/jobs/ftjob-1/events`, {
      method: 'HEAD',
      headers: { accept: 'text/event-stream' },
    });
    expect(answer.status).toBe(200);
    expect(answer.headers.get('content-type')).toContain('text/event-stream');
    expect(answer.headers.get('x-accel-buffering')).toBe('no');
    expect(read()).toBe(before);
  });

  it('reads no more events than its client takes, and all once it does', async () => {
    const { socket, read } = await start();
    expect(await untilStill(read)).toBeLessThan(EVENTS / 2);
    let tail = '';
    await new Promise<void>((resolve) => {
      socket.on('data', (chunk) => {
        tail = (tail + chunk.toString('latin1')).slice(-1000);
        if (tail.includes('event: done')) resolve();
      });
    });
    expect(read()).toBe(EVENTS);
  });

  it('does not hold up a shutdown when its client takes nothing', async () => {
    const { app, read } = await start();
    await untilStill(read);
    await app.close();
  });

  it('ends when its client goes', async () => {
    const { socket, read } = await start();
    await untilStill(read);
    socket.destroy();
    expect(await untilStill(read)).toBeLessThan(EVENTS / 2);
  });
});
