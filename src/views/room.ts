/** Lets work of so much size be under way at a time, first come, first served; work of more than all of it is alone. */
export class Room {
  private taken = 0;
  private readonly waiting: { size: number; enter(): void }[] = [];

  constructor(private readonly capacity: number) {}

  async use<Result>(size: number, work: () => Promise<Result>): Promise<Result> {
    const own = Math.min(size, this.capacity);
    if (this.waiting.length > 0 || this.taken + own > this.capacity) {
      await new Promise<void>((enter) => this.waiting.push({ size: own, enter }));
    } else {
      this.taken += own;
    }
    try {
      return await work();
    } finally {
      this.taken -= own;
      this.admit();
    }
  }

  private admit(): void {
    while (this.waiting.length > 0 && this.taken + this.waiting[0].size <= this.capacity) {
      const { size, enter } = this.waiting.shift()!;
      this.taken += size;
      enter();
    }
  }
}
