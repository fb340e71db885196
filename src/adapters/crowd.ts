/** How long it is remembered how many there were, at least; at most twice as long. */
const REMEMBERED_MS = 100;

/** Of fewer, nothing tells whether they are alone. */
const SMALLEST = 2;

/**
 * Those who ask one adapter for predictions. Callers in a loop ask again as soon as they are answered: when as many have come
 * as there lately were, there is nobody to wait for.
 */
export class Crowd {
  /** Predictions that are being read. */
  private reading = 0;
  /** Predictions that wait to be sent. */
  private waiting = 0;
  /** Predictions whose answers are awaited. */
  private sent = 0;
  private recently = { since: Number.NEGATIVE_INFINITY, most: 0 };
  private before = 0;

  /** Nobody is there, and nobody is remembered. */
  get isForgotten(): boolean {
    return this.reading + this.waiting + this.sent === 0 && this.expected === 0;
  }

  get isReading(): boolean {
    return this.reading > 0;
  }

  /** Whether everybody is waiting who is to be expected. */
  get isComplete(): boolean {
    const { expected } = this;
    return this.reading + this.sent === 0 && expected >= SMALLEST && this.waiting >= expected;
  }

  comes(): void {
    this.reading++;
  }

  hasBeenRead(): void {
    this.reading--;
  }

  waits(): void {
    this.waiting++;
  }

  areSent(callers: number): void {
    this.waiting -= callers;
    this.sent += callers;
  }

  areAnswered(callers: number): void {
    this.passTime();
    this.recently.most = Math.max(this.recently.most, this.reading + this.waiting + this.sent);
    this.sent -= callers;
  }

  /** How many there were at a time lately; 0 where nothing is known. */
  private get expected(): number {
    this.passTime();
    return Math.max(this.before, this.recently.most);
  }

  private passTime(): void {
    const now = performance.now();
    const age = now - this.recently.since;
    if (age < REMEMBERED_MS) return;
    this.before = age < 2 * REMEMBERED_MS ? this.recently.most : 0;
    this.recently = { since: now, most: 0 };
  }
}
