import type { EventEmitter } from 'node:events';
import { createPostgresBackend, Queue, type QueueOptions, Worker, type WorkerOptions } from 'bullmq';
import { Redis } from 'ioredis';
import type { Logger } from 'pino';
import { describeConnection, openSession } from '../db/connection-string.js';
import { ForeignQueueError, isFinal, reasonOf } from './store-errors.js';

/** Where the queue lives. Only the folder of this file knows that there is a choice. */
export type QueueConnection =
  | { readonly kind: 'redis'; readonly url: string; readonly installation: string }
  | { readonly kind: 'postgres'; readonly connectionString: string };

/**
 * Redis where an address is given, else the Postgres database that holds everything else.
 * @param options.installation names that database, so that two never take each other's jobs from one Redis
 */
export function openQueueConnection(options: {
  redisUrl?: string;
  connectionString: string;
  installation: string;
}): QueueConnection {
  const { redisUrl, connectionString, installation } = options;
  return redisUrl === undefined
    ? { kind: 'postgres', connectionString }
    : { kind: 'redis', url: redisUrl, installation };
}

/** The queue's store does not answer; the message says which and what to check. */
export class QueueUnreachableError extends Error {
  override readonly name = 'QueueUnreachableError';
}

/** What a job carries besides its id: how often it was asked for while it was there already. */
export interface JobData {
  requests: number;
}

export type JobQueue = Queue<JobData>;
export type JobWorker = Worker<JobData>;

/** Every queue of ours is one pair of BullMQ objects with what it takes to end them. */
export interface Opened<T> {
  bull: T;
  disconnect(): Promise<void>;
}

const QUEUE_NAME = 'training';
/** Before every key in Redis. */
const PREFIX = 'craft';
const INSTALLATION_KEY = `${PREFIX}:installation`;
const READY_TIMEOUT_MS = 10_000;
const SAME_ERROR_SILENCE_MS = 30_000;

/** The producing side. Its commands fail within seconds when Redis is away, so that a request can be answered. */
export function openBullQueue(
  connection: QueueConnection,
  options: Omit<QueueOptions, 'connection'>,
  log: Logger,
): Promise<Opened<JobQueue>> {
  if (connection.kind === 'postgres') {
    const bull = new Queue(
      QUEUE_NAME,
      { ...options, connection: postgresOptions(connection.connectionString, 4) },
      createPostgresBackend,
    );
    return whenReady(bull as unknown as JobQueue, connection, async () => {}, log);
  }
  const redis = new Redis(connection.url, { maxRetriesPerRequest: 2 });
  const bull = new Queue<JobData>(QUEUE_NAME, { ...options, connection: redis, prefix: PREFIX });
  return whenReady(bull as unknown as JobQueue, connection, async () => redis.disconnect(), log, redis);
}

/** The consuming side. It waits for a store that is away and goes on when it is back. */
export async function openBullWorker(
  connection: QueueConnection,
  process: ConstructorParameters<typeof Worker<JobData>>[1],
  options: Omit<WorkerOptions, 'connection'>,
  log: Logger,
): Promise<Opened<JobWorker>> {
  if (connection.kind === 'postgres') {
    const bull = new Worker(
      QUEUE_NAME,
      process,
      { ...options, connection: postgresOptions(connection.connectionString, 4) },
      createPostgresBackend,
    );
    return whenReady(bull as unknown as JobWorker, connection, async () => {}, log);
  }
  const redis = new Redis(connection.url, { maxRetriesPerRequest: null });
  const bull = new Worker<JobData>(QUEUE_NAME, process, {
    ...options,
    connection: redis,
    prefix: PREFIX,
    autorun: false,
  });
  const opened = await whenReady(bull as unknown as JobWorker, connection, async () => redis.disconnect(), log, redis);
  bull.run().catch((error: unknown) => bull.emit('error', error as Error));
  return opened;
}

function postgresOptions(connectionString: string, poolSize: number) {
  const { schema, ...session } = openSession(connectionString);
  return {
    ...session,
    // Many connection strings name the schema that is meant anyway: the processes of one database have one queue.
    schema: schema === undefined || schema === 'public' ? 'bullmq' : `${schema}_bullmq`,
    migrate: true,
    max: poolSize,
    keepAlive: true,
    application_name: 'craft-queue',
  };
}

async function whenReady<T extends JobQueue | JobWorker>(
  bull: T,
  connection: QueueConnection,
  disconnect: () => Promise<void>,
  log: Logger,
  redis?: Redis,
): Promise<Opened<T>> {
  const emitter = bull as unknown as EventEmitter;
  logErrors(emitter, log);
  let timer: NodeJS.Timeout | undefined;
  let last: unknown;
  let look = (_error: Error) => {};
  const failure = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(last ?? new Error('no answer in time')), READY_TIMEOUT_MS);
    look = (error) => {
      last = error;
      if (isFinal(error)) reject(error);
    };
  });
  emitter.on('error', look);
  try {
    await Promise.race([bull.waitUntilReady(), failure]);
    if (redis !== undefined && connection.kind === 'redis') {
      await Promise.race([claim(redis, connection.installation), failure]);
    }
    return { bull, disconnect };
  } catch (cause) {
    void bull.close().catch(() => {});
    await disconnect();
    const [store, address, variable] =
      connection.kind === 'redis'
        ? ['Redis', connection.url, 'REDIS_URL']
        : ['Postgres', connection.connectionString, 'DATABASE_URL'];
    const reason = reasonOf(connection.kind, cause) ?? reasonOf(connection.kind, last);
    throw new QueueUnreachableError(
      `The job queue cannot be opened on ${store} at ${describeConnection(address)}${reason === undefined ? '' : `: ${reason}`}. ` +
        `Check that it runs and that ${variable} is right${connection.kind === 'redis' ? ', or leave it unset to keep the queue in Postgres' : ''}.`,
      { cause },
    );
  } finally {
    clearTimeout(timer);
    emitter.off('error', look);
  }
}

/** Two installations on one database of Redis would take each other's jobs, and throw them away as unknown. */
async function claim(redis: Redis, installation: string): Promise<void> {
  await redis.setnx(INSTALLATION_KEY, installation);
  const holder = await redis.get(INSTALLATION_KEY);
  if (holder === installation) {
    // A Redis that keeps nothing comes back empty.
    redis.on('ready', () => void redis.setnx(INSTALLATION_KEY, installation).catch(() => {}));
    return;
  }
  throw new ForeignQueueError(
    'it holds the queue of another craft-server, with another Postgres database. Give each a database of its own by the ' +
      'number at the end of REDIS_URL (redis://host:6379/1), or, where that one is no more, delete the keys craft:*',
  );
}

/** Logs what goes wrong behind the scenes. A store that is away repeats itself several times a second. */
function logErrors(emitter: EventEmitter, log: Logger): void {
  const lastLogged = new Map<string, number>();
  emitter.on('error', (error: Error) => {
    const key = (error as { code?: string }).code ?? error.message;
    const now = Date.now();
    if (now - (lastLogged.get(key) ?? 0) < SAME_ERROR_SILENCE_MS) return;
    lastLogged.set(key, now);
    log.warn({ err: error }, 'the job queue met an error and goes on');
  });
}
