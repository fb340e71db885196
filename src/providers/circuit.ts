import { setTimeout as sleep } from 'node:timers/promises';
import type { ProviderCallError } from './provider-call-error.js';

export interface CircuitOptions {
  /** Failures in a row after which no more calls are sent. */
  threshold: number;
  /** Wait before the first probe; doubles with each one that fails. */
  baseDelayMs: number;
  maxDelayMs: number;
  /** How long the provider may fail, without one success, before whoever needs it gives up. */
  patienceMs: number;
  /** Milliseconds on a clock that never runs backwards. */
  now?: () => number;
}

/** The provider has failed for longer than the caller's patience. The cause is its last failure. */
export class PatienceExhaustedError extends Error {
  override readonly name = 'PatienceExhaustedError';

  /** @param answersProbes whether it answered the smallest of calls meanwhile, and only those */
  constructor(
    override readonly cause: ProviderCallError,
    readonly answersProbes = false,
  ) {
    super(cause.message, { cause });
  }
}

/**
 * Circuit breaker for the calls that one job has in flight at its provider. Closed, all calls pass. After some failures in
 * a row it opens: calls wait, so that a provider in trouble is not paid for failing many times over. Half-open, one caller
 * is sent to probe with as little as it can; its success closes the circuit.
 */
export class Circuit {
  private failuresInRow = 0;
  private probesFailed = 0;
  private open = false;
  private probing = false;
  private answersProbes = false;
  private probeAt = 0;
  private failingSince: number | null = null;
  private lastFailure: ProviderCallError | null = null;
  private wake = () => {};
  private changed!: Promise<void>;
  private readonly now: () => number;

  constructor(private readonly options: CircuitOptions) {
    this.now = options.now ?? (() => performance.now());
    this.notify();
  }

  get isOpen(): boolean {
    return this.open;
  }

  /**
   * Waits while the circuit is open, or until `signal` fires.
   * @returns `probe` to the one caller that is to probe; it must report with `succeeded`, `failed` or `abandonProbe`
   * @throws PatienceExhaustedError
   */
  async admit(signal: AbortSignal): Promise<'call' | 'probe' | 'aborted'> {
    for (;;) {
      if (signal.aborted) return 'aborted';
      const giveUpAt =
        this.failingSince === null ? Number.POSITIVE_INFINITY : this.failingSince + this.options.patienceMs;
      const now = this.now();
      if (now >= giveUpAt && this.lastFailure) throw new PatienceExhaustedError(this.lastFailure, this.answersProbes);
      if (!this.open) return 'call';
      if (now >= this.probeAt && !this.probing) {
        this.probing = true;
        return 'probe';
      }
      const until = Math.min(giveUpAt, this.probing ? Number.POSITIVE_INFINITY : this.probeAt);
      await this.waitUntil(until, signal);
    }
  }

  succeeded(): void {
    this.failingSince = null;
    this.lastFailure = null;
    this.answersProbes = false;
    this.close();
  }

  /** Calls may be sent again. Whether the provider answers them, too, only they will show, so patience goes on running. */
  probeSucceeded(): void {
    this.answersProbes = true;
    this.close();
  }

  private close(): void {
    this.failuresInRow = 0;
    this.probesFailed = 0;
    this.probing = false;
    if (this.open) {
      this.open = false;
      this.notify();
    }
  }

  /**
   * A rate limit is no sign of trouble: it tries patience only, and does not open the circuit.
   * @param probe whether it was the probe that failed, and not a call that was on its way when the circuit opened
   */
  failed(failure: ProviderCallError, probe = false): void {
    this.failingSince ??= this.now();
    this.lastFailure = failure;
    if (failure.code === 'provider_rate_limited' && !this.open) return;
    this.failuresInRow++;
    if (this.open) {
      if (!probe) return;
      this.probesFailed++;
      this.probing = false;
    } else if (this.failuresInRow < this.options.threshold) {
      return;
    }
    this.open = true;
    const delay = Math.min(this.options.maxDelayMs, this.options.baseDelayMs * 2 ** this.probesFailed);
    this.probeAt = this.now() + Math.max(delay, (failure.retryAfterSeconds ?? 0) * 1000);
    this.notify();
  }

  /** The probe was not sent, or its outcome says nothing of the provider; another caller may try. */
  abandonProbe(): void {
    this.probing = false;
    this.notify();
  }

  private notify(): void {
    this.wake();
    this.changed = new Promise((resolve) => {
      this.wake = resolve;
    });
  }

  private async waitUntil(moment: number, signal: AbortSignal): Promise<void> {
    const waited = new AbortController();
    const either = AbortSignal.any([signal, waited.signal]);
    const delay = Math.min(moment - this.now(), 60_000);
    await Promise.race([this.changed, sleep(Math.max(0, delay), undefined, { signal: either }).catch(() => {})]);
    waited.abort();
  }
}
