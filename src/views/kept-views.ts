/** Views that were made and are still to be sent, by what they are of; the oldest go first when they become too much. */
export class KeptViews {
  private readonly views = new Map<string, Buffer>();
  private bytes = 0;

  /** @param mostBytes that all of them take together */
  constructor(private readonly mostBytes: number) {}

  /** Bytes that they take. */
  get size(): number {
    return this.bytes;
  }

  get(key: string): Buffer | undefined {
    return this.views.get(key);
  }

  set(key: string, view: Buffer): void {
    this.bytes += view.length - (this.views.get(key)?.length ?? 0);
    this.views.set(key, view);
    for (const [oldest, { length }] of this.views) {
      if (this.bytes <= this.mostBytes) return;
      this.views.delete(oldest);
      this.bytes -= length;
    }
  }

  clear(): void {
    this.views.clear();
    this.bytes = 0;
  }
}
