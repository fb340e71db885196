import { setMaxListeners } from 'node:events';
import type { BackOff } from './back-off.js';
import type { SlidingWindow } from './sliding-window.js';

/** Node's timers take no longer ones. */
const LONGEST_TIMER_MS = 2 ** 31 - 1;

export interface Turn {
  /** Estimated tokens that the request will be billed for. */
  tokens: number;
  /** The longest hold that is waited for, in milliseconds. */
  patienceMs?: number;
  signal?: AbortSignal;
}

/** A request's place among those in flight. */
export interface Place {
  /** The request is being written to its connection. */
  sent(): void;
  /** When it was sent, in milliseconds of `performance.now`; undefined before. */
  readonly sentAt: number | undefined;
  /** The request is over, sent or not. */
  leave(): void;
}

/** Why a request was not sent: its caller or this transport gave it up, or a hold outlasts its patience. */
export class NotSentError extends Error {
  override readonly name = 'NotSentError';

  constructor(
    readonly reason: 'aborted' | 'closed' | 'held',
    /** Of a hold: how long it goes on. */
    readonly seconds?: number,
  ) {
    super(`The request was not sent: ${reason}.`);
  }
}

interface Waiter extends Turn {
  since: number;
  admit(place: Place): void;
  refuse(reason: NotSentError): void;
}

/** Lets requests go in the order in which they came, as concurrency, rates and back-off allow. */
export class SendQueue {
  private waiting: Waiter[] = [];
  private inFlight = 0;
  private closed = false;
  private timer: NodeJS.Timeout | undefined;
  private readonly whenIdle: (() => void)[] = [];

  constructor(
    private readonly backOff: BackOff,
    private readonly limits: { requests: SlidingWindow | null; tokens: SlidingWindow | null },
  ) {}

  /** Waits for the turn of a request. @throws NotSentError */
  enter(turn: Turn): Promise<Place> {
    if (turn.signal?.aborted) return Promise.reject(new NotSentError('aborted'));
    if (this.closed) return Promise.reject(new NotSentError('closed'));
    return new Promise<Place>((resolve, reject) => {
      const { signal } = turn;
      const giveUp = () => waiter.refuse(new NotSentError('aborted'));
      const done = () => {
        signal?.removeEventListener('abort', giveUp);
        this.waiting = this.waiting.filter((other) => other !== waiter);
        if (this.waiting.length === 0) clearTimeout(this.timer);
      };
      const waiter: Waiter = {
        ...turn,
        since: performance.now(),
        admit(place) {
          done();
          resolve(place);
        },
        refuse(reason) {
          done();
          reject(reason);
        },
      };
      if (signal) {
        // A job's calls share one, and any number of them may wait.
        setMaxListeners(0, signal);
        signal.addEventListener('abort', giveUp);
      }
      this.waiting.push(waiter);
      this.advance();
    });
  }

  /** To be called when the back-off has changed: lets go who may go now, and refuses who will not wait for so long. */
  advance(): void {
    clearTimeout(this.timer);
    this.refuseImpatient();
    while (this.waiting.length > 0 && this.inFlight < this.backOff.mostInFlight) {
      const now = performance.now();
      const moment = this.nextMoment(now);
      if (moment > now) {
        this.advanceAt(moment - now);
        return;
      }
      const [next] = this.waiting;
      next.admit(this.placeFor(next.tokens));
    }
  }

  /** The provider has counted more than the limits, though no more was sent. */
  widenWindows(): void {
    this.limits.requests?.widen();
    this.limits.tokens?.widen();
  }

  /** Refuses all who wait, and all who come. */
  close(): void {
    this.closed = true;
    clearTimeout(this.timer);
    for (const waiter of this.waiting) waiter.refuse(new NotSentError('closed'));
  }

  /** Resolves once nothing is in flight. */
  async idle(): Promise<void> {
    if (this.inFlight > 0) await new Promise<void>((resolve) => this.whenIdle.push(resolve));
  }

  private nextMoment(now: number): number {
    const { requests, tokens } = this.limits;
    return Math.max(this.backOff.heldUntil, requests?.earliest(now) ?? now, tokens?.earliest(now) ?? now);
  }

  private advanceAt(delay: number): void {
    // Who waits for a request that is not sent yet goes on when that is.
    if (delay === Number.POSITIVE_INFINITY) return;
    this.timer = setTimeout(() => this.advance(), Math.min(LONGEST_TIMER_MS, Math.ceil(delay)));
  }

  private refuseImpatient(): void {
    const { heldUntil } = this.backOff;
    const seconds = (heldUntil - performance.now()) / 1000;
    if (seconds <= 0) return;
    for (const { since, patienceMs, refuse } of this.waiting) {
      if (patienceMs !== undefined && heldUntil > since + patienceMs) refuse(new NotSentError('held', seconds));
    }
  }

  private placeFor(tokens: number): Place {
    const { limits } = this;
    let sentAt: number | undefined;
    this.inFlight++;
    const now = performance.now();
    limits.requests?.reserve(1, now);
    limits.tokens?.reserve(tokens, now);
    return {
      get sentAt() {
        return sentAt;
      },
      sent: () => {
        if (sentAt !== undefined) return;
        sentAt = performance.now();
        limits.requests?.confirm(1, sentAt);
        limits.tokens?.confirm(tokens, sentAt);
        this.advance();
      },
      leave: () => {
        if (sentAt === undefined) {
          limits.requests?.withdraw(1);
          limits.tokens?.withdraw(tokens);
        }
        this.inFlight--;
        if (this.inFlight === 0) for (const resolve of this.whenIdle.splice(0)) resolve();
        this.advance();
      },
    };
  }
}
