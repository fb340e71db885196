/**
 * Added to every window, because two requests reach the provider a little closer together, or further apart, than they
 * were sent: so much at first, and more where the provider found too many in one of its seconds all the same.
 */
const JITTER_MS = { first: 20, step: 10, most: 100 };
/**
 * Times the limit at which requests leave when a pause is caught up. Sent all at once they would queue at the provider, and
 * reach its count so late that the ones a second later came too early.
 */
const PEAK = 4;

/**
 * A limit per second on requests or tokens, kept in every window rather than by even spacing, because demand comes in
 * bursts with pauses between them: a generation waits for all its answers before the next one asks. Each request is let go
 * as soon as the ones before it allow, so that a burst catches up what the pause left unused: those that together just
 * reach the limit must have taken as long as the limit gives them, a second for a whole number of requests. So no second
 * holds more than the limit (rounded up to a whole request, where the limit or the requests are uneven), wherever the
 * provider's second begins. Rates below one per second are gaps between requests.
 *
 * What was let go but not sent yet, because its connection is being made, counts as sent last.
 */
export class SlidingWindow {
  /** Oldest first: what may still hold up a request. */
  private readonly sent: { at: number; amount: number }[] = [];
  private sentAmount = 0;
  private pendingAmount = 0;
  private nextByPeak = Number.NEGATIVE_INFINITY;
  private jitterMs = JITTER_MS.first;

  constructor(private readonly perSecond: number) {}

  /** When the next request may be sent, in milliseconds; infinite as long as that hangs on one that is not sent yet. */
  earliest(now: number): number {
    this.forget(now);
    if (this.pendingAmount >= this.perSecond) return Number.POSITIVE_INFINITY;
    let amount = this.sentAmount + this.pendingAmount;
    if (amount < this.perSecond) return Math.max(now, this.nextByPeak);
    let first = 0;
    while (amount - this.sent[first].amount >= this.perSecond) amount -= this.sent[first++].amount;
    return Math.max(now, this.nextByPeak, this.sent[first].at + this.durationOf(amount));
  }

  /** A request is let go. It must be followed by {@link confirm} or {@link withdraw}. */
  reserve(amount: number, now: number): void {
    this.pendingAmount += amount;
    this.nextByPeak = now + ((amount / this.perSecond) * 1000) / PEAK;
  }

  confirm(amount: number, now: number): void {
    this.pendingAmount -= amount;
    this.sent.push({ at: now, amount });
    this.sentAmount += amount;
  }

  /** The request was not sent after all. */
  withdraw(amount: number): void {
    this.pendingAmount -= amount;
  }

  /** The provider has counted more than the limit, though no more were sent. */
  widen(): void {
    this.jitterMs = Math.min(JITTER_MS.most, this.jitterMs + JITTER_MS.step);
  }

  private forget(now: number): void {
    while (this.sent.length > 0) {
      const [{ at, amount }] = this.sent;
      const isCovered = this.sentAmount - amount >= this.perSecond;
      if (!isCovered && at + this.durationOf(this.perSecond + amount) > now) return;
      this.sent.shift();
      this.sentAmount -= amount;
    }
  }

  private durationOf(amount: number): number {
    return (amount / this.perSecond) * 1000 + this.jitterMs;
  }
}
