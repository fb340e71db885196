import { type AddressInfo, createServer } from 'node:net';
import Fastify from 'fastify';
import { Redis } from 'ioredis';
import pg from 'pg';
import { describe, expect, it } from 'vitest';
import { createPrismaClient } from '../../../src/db/client.js';
import { AuthenticationError, BudgetExceededError, ConflictError, CraftError } from '../../../src/errors.js';
import { registerErrorReplies } from '../../../src/http/plugins/error-replies.js';
import { pageQuery } from '../../../src/http/schemas/common.js';
import { type Billing, ProviderCallError } from '../../../src/providers/provider-call-error.js';

const callFailed = (billing: Billing) =>
  new ProviderCallError({ code: 'provider_timeout', message: 'Late.', billing, retryable: true });

/** As Prisma tells of a statement of ours that failed. */
const failedStatement = (cause: object) =>
  Object.assign(new Error('Raw query failed.'), { code: 'P2010', meta: { driverAdapterError: { cause } } });

const failureOf = (work: Promise<unknown>): Promise<Error> =>
  work.then(
    () => expect.fail('it was answered'),
    (error) => error,
  );

describe('error replies', () => {
  it.each<[string, Error, string | undefined]>([
    ['a conflict', new ConflictError({ code: 'c', message: 'm' }), 'false'],
    ['a call that may have been billed', callFailed('unknown'), 'false'],
    ['a call that was billed', callFailed('billed'), 'false'],
    ['a call that was not billed', callFailed('unbilled'), undefined],
    ['a spent budget', new BudgetExceededError({ code: 'c', message: 'm' }), undefined],
    ['trouble of our own', new CraftError(503, 'server_error', { code: 'c', message: 'm' }), undefined],
  ])('tell SDKs whether to repeat: %s', async (_, error, expected) => {
    const app = Fastify();
    registerErrorReplies(app);
    app.get('/', async () => {
      throw error;
    });
    const response = await app.inject('/');
    expect(response.headers['x-should-retry']).toBe(expected);
    await app.close();
  });

  it.each([
    [new AuthenticationError({ code: 'missing_api_key', message: 'm' }), 'Bearer'],
    [new AuthenticationError({ code: 'invalid_api_key', message: 'm' }), 'Bearer error="invalid_token"'],
    [new ConflictError({ code: 'c', message: 'm' }), undefined],
  ])('say how to authenticate where that is what is missing: %s', async (error, expected) => {
    const app = Fastify();
    registerErrorReplies(app);
    app.get('/', async () => {
      throw error;
    });
    expect((await app.inject('/')).headers['www-authenticate']).toBe(expected);
    await app.close();
  });
});

describe('a request that meets a store that is away', () => {
  const answerTo = async (error: Error) => {
    const app = Fastify();
    registerErrorReplies(app);
    app.get('/', async () => {
      throw error;
    });
    const { statusCode, headers } = await app.inject('/');
    await app.close();
    return { statusCode, retryAfter: headers['retry-after'] };
  };

  it('is told to come back', async () => {
    const database = createPrismaClient({ connectionString: 'postgresql://u:p@127.0.0.1:1/d' });
    const away = await database.job.findMany().catch((error: Error) => error);
    const awayFromStatement = await database.$executeRaw`SELECT 1`.catch((error: Error) => error);
    const cut = failedStatement({ kind: 'postgres', originalCode: '57P01' });
    const stopping = Object.assign(new Error('terminating connection'), { code: '57P01' });
    const redis = new Redis('redis://127.0.0.1:1', { maxRetriesPerRequest: 0 });
    redis.on('error', () => {});
    const queueAway = await redis.ping().catch((error: Error) => error);
    redis.disconnect();
    for (const error of [away, awayFromStatement, cut, stopping, queueAway]) {
      expect(await answerTo(error as Error)).toEqual({ statusCode: 503, retryAfter: '5' });
    }
  });

  it('is told so also where the driver of Postgres has words alone for it', async () => {
    const hangsUp = createServer((socket) => socket.destroy());
    const isSilent = createServer((socket) => socket.on('error', () => {}));
    for (const server of [hangsUp, isSilent]) {
      await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
      const { port } = server.address() as AddressInfo;
      const pool = new pg.Pool({ host: '127.0.0.1', port, user: 'u', max: 1, connectionTimeoutMillis: 100 });
      const failures = await Promise.all([pool.query('SELECT 1'), pool.query('SELECT 1')].map(failureOf));
      for (const error of failures) expect(await answerTo(error)).toEqual({ statusCode: 503, retryAfter: '5' });
      server.close();
    }
  });

  it('is not what a bug is taken for', async () => {
    const bug = Object.assign(new Error('column is missing'), { code: '42703' });
    for (const error of [
      bug,
      failedStatement({ kind: 'postgres', originalCode: '42703' }),
      new TypeError('not a function'),
    ]) {
      expect(await answerTo(error)).toEqual({ statusCode: 500, retryAfter: undefined });
    }
  });
});

describe('pageQuery', () => {
  it('takes the longest adapter id as a cursor', () => {
    expect(pageQuery.safeParse({ after: 'a'.repeat(145) }).success).toBe(true);
  });
});
