import { setTimeout as sleep } from 'node:timers/promises';
import pg from 'pg';
import type { Logger } from 'pino';
import { EVENT_CHANNEL } from './events.js';

const RECONNECT_MS = 1000;

/**
 * One LISTEN connection per process, shared by all live event streams. It only wakes them: events are always read from
 * their table, so nothing is lost while the connection is down (streams also look by themselves now and then).
 */
export class EventFeed {
  private readonly waiting = new Map<string, Set<() => void>>();
  private client: pg.Client | undefined;
  private closed = false;

  constructor(
    private readonly connectionString: string,
    private readonly log: Logger,
  ) {}

  async open(): Promise<void> {
    const client = new pg.Client({ connectionString: this.connectionString, keepAlive: true });
    client.on('notification', ({ payload }) => this.wake(payload ?? ''));
    client.on('error', (error) => {
      this.log.warn({ err: error }, 'event feed lost its connection');
      void this.reconnect();
    });
    await client.connect();
    await client.query(`LISTEN ${EVENT_CHANNEL}`);
    this.client = client;
  }

  /** Resolves when the job has new events, after `timeoutMs`, or when `signal` fires. */
  async next(jobId: string, timeoutMs: number, signal: AbortSignal): Promise<void> {
    let wake = () => {};
    const woken = new Promise<void>((resolve) => {
      wake = resolve;
    });
    const waiters = this.waiting.get(jobId) ?? new Set();
    waiters.add(wake);
    this.waiting.set(jobId, waiters);
    const done = new AbortController();
    try {
      const limit = AbortSignal.any([signal, done.signal]);
      await Promise.race([woken, sleep(timeoutMs, undefined, { signal: limit }).catch(() => undefined)]);
    } finally {
      done.abort();
      waiters.delete(wake);
      if (waiters.size === 0) this.waiting.delete(jobId);
    }
  }

  async close(): Promise<void> {
    this.closed = true;
    for (const jobId of [...this.waiting.keys()]) this.wake(jobId);
    await this.client?.end().catch(() => undefined);
  }

  private wake(jobId: string): void {
    for (const wake of this.waiting.get(jobId) ?? []) wake();
  }

  private async reconnect(): Promise<void> {
    this.client?.end().catch(() => undefined);
    this.client = undefined;
    while (!this.closed) {
      await sleep(RECONNECT_MS);
      try {
        await this.open();
        return;
      } catch (error) {
        this.log.warn({ err: error }, 'event feed cannot reach Postgres yet');
      }
    }
  }
}
