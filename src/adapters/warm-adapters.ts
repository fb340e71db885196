/** How much is kept at most. */
interface WarmLimits {
  adapters: number;
  bytes: number;
}

const LIMITS: WarmLimits = { adapters: 256, bytes: 256 * 1024 * 1024 };

/** Adapters that are ready for predictions. The least recently used go first; the one that was used last always stays. */
export class WarmAdapters<T> {
  private readonly kept = new Map<string, { adapter: T; bytes: number }>();
  private bytes = 0;

  constructor(private readonly limits = LIMITS) {}

  /** In order of last use, oldest first. */
  get ids(): string[] {
    return [...this.kept.keys()];
  }

  /** Counts as a use. */
  get(id: string): T | undefined {
    const entry = this.kept.get(id);
    if (!entry) return undefined;
    this.kept.delete(id);
    this.kept.set(id, entry);
    return entry.adapter;
  }

  /** @param bytes what the adapter takes in memory, about */
  set(id: string, adapter: T, bytes: number): void {
    this.delete(id);
    this.kept.set(id, { adapter, bytes });
    this.bytes += bytes;
    for (const [oldest] of this.kept) {
      if (oldest === id || (this.kept.size <= this.limits.adapters && this.bytes <= this.limits.bytes)) return;
      this.delete(oldest);
    }
  }

  delete(id: string): void {
    this.bytes -= this.kept.get(id)?.bytes ?? 0;
    this.kept.delete(id);
  }
}
