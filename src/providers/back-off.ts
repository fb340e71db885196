/** However long a provider says to wait, it is asked again after this time. */
const LONGEST_HOLD_MS = 600_000;
const FIRST_PAUSE_MS = 250;
const LONGEST_PAUSE_MS = 30_000;

/**
 * What a provider's own signs of overload allow: until when nothing is sent, and how many requests may be in flight.
 * Those are halved when it pushes back, and grow by one with each round of successes (AIMD).
 */
export class BackOff {
  private allowed: number;
  private holdUntil = Number.NEGATIVE_INFINITY;
  private lastPushBack = Number.NEGATIVE_INFINITY;
  private pushBacksInRow = 0;

  /** @param concurrency requests in flight while the provider has no objections */
  constructor(private readonly concurrency: number) {
    this.allowed = concurrency;
  }

  /** Requests that may be in flight, at least 1. */
  get mostInFlight(): number {
    return Math.floor(this.allowed);
  }

  /** Nothing is to be sent before, in milliseconds of the clock that the callers go by. */
  get heldUntil(): number {
    return this.holdUntil;
  }

  succeeded(): void {
    this.pushBacksInRow = 0;
    this.allowed = Math.min(this.concurrency, this.allowed + 1 / this.allowed);
  }

  /**
   * The provider answered that it has too much to do.
   * @param sentAt requests that were on their way at the last push-back say nothing new
   * @param seconds how long it asks to be left alone; where it does not say, a pause that grows with each push-back
   * @returns whether it says something new
   */
  pushedBack(sentAt: number, now: number, seconds: number | undefined): boolean {
    const isNew = sentAt >= this.lastPushBack;
    if (isNew) {
      this.lastPushBack = now;
      this.allowed = Math.max(1, this.allowed / 2);
      this.pushBacksInRow++;
      if (seconds === undefined) this.hold(now, this.pauseMs());
    }
    if (seconds !== undefined) this.hold(now, seconds * 1000);
    return isNew;
  }

  /** Nothing is sent for so long, unless a longer hold is on already. */
  hold(now: number, milliseconds: number): void {
    this.holdUntil = Math.max(this.holdUntil, now + Math.min(LONGEST_HOLD_MS, milliseconds));
  }

  /** It is asked again at once, whatever it said before. */
  endHold(): void {
    this.holdUntil = Number.NEGATIVE_INFINITY;
  }

  /** Between half and all of it, so that the processes that share a provider do not come back together. */
  private pauseMs(): number {
    const ceiling = Math.min(LONGEST_PAUSE_MS, FIRST_PAUSE_MS * 2 ** (this.pushBacksInRow - 1));
    return ceiling * (0.5 + Math.random() / 2);
  }
}
