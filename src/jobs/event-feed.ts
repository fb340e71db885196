import { setTimeout as sleep } from 'node:timers/promises';
import pg from 'pg';
import type { Logger } from 'pino';
import { EVENT_CHANNEL } from './events.js';

const RECONNECT_MS = 1000;

/** One reader's ear for the events of one job. */
export class Subscription {
  private woken = false;
  private resume = () => {};

  constructor(readonly close: () => void) {}

  wake(): void {
    this.woken = true;
    this.resume();
  }

  /** Resolves when there may be new events, after `timeoutMs`, or when `signal` fires. */
  async next(timeoutMs: number, signal: AbortSignal): Promise<void> {
    if (!this.woken && !signal.aborted) {
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, timeoutMs);
        this.resume = () => {
          clearTimeout(timer);
          resolve();
        };
        signal.addEventListener('abort', this.resume, { once: true });
      });
      signal.removeEventListener('abort', this.resume);
    }
    this.woken = false;
  }
}

/**
 * One LISTEN connection per process, shared by all live event streams. It only wakes them: events are always read from
 * their table, so nothing is lost while the connection is down (streams also look by themselves now and then).
 */
export class EventFeed {
  private readonly subscriptions = new Map<string, Set<Subscription>>();
  private client: pg.Client | undefined;
  private closed = false;
  private reconnecting = false;

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
    try {
      await client.connect();
      await client.query(`LISTEN ${EVENT_CHANNEL}`);
    } catch (error) {
      client.end().catch(() => undefined);
      throw error;
    }
    this.client = client;
  }

  /**
   * Listens for a job's events from now on. What happens between two calls of `next` is not lost: the second one
   * returns at once.
   */
  subscribe(jobId: string): Subscription {
    const subscriptions = this.subscriptions.get(jobId) ?? new Set();
    this.subscriptions.set(jobId, subscriptions);
    const subscription = new Subscription(() => {
      subscriptions.delete(subscription);
      if (subscriptions.size === 0) this.subscriptions.delete(jobId);
    });
    subscriptions.add(subscription);
    return subscription;
  }

  async close(): Promise<void> {
    this.closed = true;
    for (const jobId of this.subscriptions.keys()) this.wake(jobId);
    await this.client?.end().catch(() => undefined);
  }

  private wake(jobId: string): void {
    for (const subscription of this.subscriptions.get(jobId) ?? []) subscription.wake();
  }

  private async reconnect(): Promise<void> {
    // A connection that is lost while it is being opened says so, too.
    if (this.reconnecting) return;
    this.reconnecting = true;
    this.client?.end().catch(() => undefined);
    this.client = undefined;
    while (!this.closed && !this.client) {
      await sleep(RECONNECT_MS);
      await this.open().catch((error) => this.log.warn({ err: error }, 'event feed cannot reach Postgres yet'));
    }
    this.reconnecting = false;
    if (this.closed) await this.close();
  }
}
