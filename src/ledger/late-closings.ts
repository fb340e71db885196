/** How long closings are gathered; their reservations count all the while. */
const GATHER_MS = 20;
const LARGEST_BATCH = 512;

/**
 * Closings that nobody waits for. What is lost of them with this process is harmless: the reservations stay, count, and are
 * found later.
 */
export class LateClosings<Item> {
  private waiting: Item[] = [];
  private timer: NodeJS.Timeout | undefined;
  private readonly underWay = new Set<Promise<void>>();

  /** @param close closes all of them, or fails for all */
  constructor(private readonly close: (items: Item[]) => Promise<unknown>) {}

  add(item: Item): void {
    this.waiting.push(item);
    if (this.waiting.length >= LARGEST_BATCH) this.send();
    else this.timer ??= setTimeout(() => this.send(), GATHER_MS);
  }

  /** Resolves when everything that was added has been tried. */
  async done(): Promise<void> {
    this.send();
    await Promise.all(this.underWay);
  }

  private send(): void {
    clearTimeout(this.timer);
    this.timer = undefined;
    if (this.waiting.length === 0) return;
    const sent = this.closeAll(this.waiting.splice(0)).finally(() => this.underWay.delete(sent));
    this.underWay.add(sent);
  }

  private async closeAll(items: Item[]): Promise<void> {
    try {
      await this.close(items);
    } catch {
      if (items.length === 1) return;
      // One that Postgres refuses, such as a bill out of all bounds, must not keep the others open.
      for (const item of items) await this.closeAll([item]);
    }
  }
}
