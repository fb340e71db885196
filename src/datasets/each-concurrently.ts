/** Bounds how many pieces of work are under way at a time. */
export class Slots {
  private taken = 0;
  private freed: () => void = () => {};

  constructor(private readonly count: number) {}

  /** Waits for a free slot and takes it. One caller at a time. */
  async take(): Promise<void> {
    while (this.taken >= this.count) {
      await new Promise<void>((resolve) => {
        this.freed = resolve;
      });
    }
    this.taken++;
  }

  release(): void {
    this.taken--;
    this.freed();
  }
}

/**
 * Runs `work` on every item of a generator, as many at a time as there are slots for an item of its kind. After the first
 * failure no further item is started; `failed` is called, and what is under way is awaited and the generator closed
 * before the failure is thrown.
 */
export async function eachConcurrently<Item>(
  items: AsyncGenerator<Item>,
  slotsFor: (item: Item) => Slots,
  work: (item: Item) => Promise<void>,
  failed: () => void = () => {},
): Promise<void> {
  const failures: unknown[] = [];
  const underWay = new Set<Promise<void>>();
  const fail = (error: unknown) => {
    if (failures.push(error) === 1) failed();
  };
  const start = (item: Item, slots: Slots) => {
    const done = work(item)
      .catch(fail)
      .finally(() => {
        underWay.delete(done);
        slots.release();
      });
    underWay.add(done);
  };
  try {
    for await (const item of items) {
      const slots = slotsFor(item);
      await slots.take();
      if (failures.length > 0) {
        slots.release();
        break;
      }
      start(item, slots);
    }
  } catch (error) {
    fail(error);
  }
  await Promise.all(underWay);
  if (failures.length > 0) throw failures[0];
}
