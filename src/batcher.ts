interface Waiting<Item, Result> {
  item: Item;
  resolve(result: Result): void;
  reject(error: unknown): void;
}

/**
 * Joins what is submitted while an earlier batch is under way into the next one: no waiting where nobody else is, and one
 * round trip and one commit for many callers where there are many.
 */
export class Batcher<Item, Result> {
  private readonly waiting: Waiting<Item, Result>[] = [];
  private underWay = false;

  /**
   * @param run answers for all items, in their order
   * @param fits whether `item` may join `batch`
   * @param isOfOne whether an error is due to one item, so that the others are to be tried without it
   */
  constructor(
    private readonly run: (items: Item[]) => Promise<Result[]>,
    private readonly fits: (batch: Item[], item: Item) => boolean,
    private readonly isOfOne: (error: unknown) => boolean = () => false,
  ) {}

  submit(item: Item): Promise<Result> {
    return new Promise((resolve, reject) => {
      this.waiting.push({ item, resolve, reject });
      if (!this.underWay) {
        this.underWay = true;
        // Callers that were woken by the same event submit in the same turn.
        queueMicrotask(() => void this.drain());
      }
    });
  }

  private async drain(): Promise<void> {
    while (this.waiting.length > 0) {
      const batch = [this.waiting.shift()!];
      const items = [batch[0].item];
      while (this.waiting.length > 0 && this.fits(items, this.waiting[0].item)) {
        batch.push(this.waiting.shift()!);
        items.push(batch.at(-1)!.item);
      }
      try {
        const results = await this.run(items);
        for (const [i, { resolve }] of batch.entries()) resolve(results[i]);
      } catch (error) {
        if (batch.length > 1 && this.isOfOne(error)) await this.oneByOne(batch);
        else for (const { reject } of batch) reject(error);
      }
    }
    this.underWay = false;
  }

  private async oneByOne(batch: Waiting<Item, Result>[]): Promise<void> {
    for (const { item, resolve, reject } of batch) {
      await this.run([item]).then(([result]) => resolve(result), reject);
    }
  }
}
