import { IdempotencyStore } from './idempotency-store.js';
import { type Served, UsageCounter, type UsageReport } from './usage-counter.js';
import { type Purchase, UsageLog } from './usage-log.js';

export interface PurchaseOptions {
  /** Whether a request with a known `Idempotency-Key` is answered without being counted again (default: yes). */
  idempotency?: boolean;
  /** How long keys are known; by default a day. */
  idempotencyWindowSeconds?: number;
  /** Holds what was served, across restarts; without it all is in memory only. */
  stateFile?: string;
}

/** A request for an answer. */
export interface Order<A> {
  client: string;
  idempotencyKey?: string;
  served: Served;
  /** A hash of the question: equal for requests that have to be answered with the same numbers. */
  question(): string;
  compute(): Promise<Float32Array>;
  encode(numbers: Float32Array): A;
}

type Entry = Served & { client: string; key?: string; question?: string };

const DAY_SECONDS = 86_400;
const MAX_KEYS = 1_000_000;
const MAX_ANSWER_BYTES = 256 * 1024 * 1024;

/** Serves answers and keeps the books on them: from then on an answer is billed, whatever becomes of it on its way. */
export class Purchases {
  /** How long idempotency keys are honoured; undefined when they are not. */
  readonly idempotencyWindowSeconds: number | undefined;
  private readonly usage = new UsageCounter();
  private readonly keys: IdempotencyStore | undefined;
  private readonly log: UsageLog | undefined;

  constructor({ idempotency = true, idempotencyWindowSeconds = DAY_SECONDS, stateFile }: PurchaseOptions) {
    if (idempotency) {
      this.idempotencyWindowSeconds = idempotencyWindowSeconds;
      this.keys = new IdempotencyStore({
        windowSeconds: idempotencyWindowSeconds,
        maxKeys: MAX_KEYS,
        maxAnswerBytes: MAX_ANSWER_BYTES,
      });
    }
    if (stateFile !== undefined) this.log = UsageLog.open(stateFile, (purchase) => this.count(purchase));
  }

  async serve<A>({ client, idempotencyKey: key, served, question, compute, encode }: Order<A>): Promise<A> {
    if (key === undefined || this.keys === undefined) {
      const answer = encode(await compute());
      this.record({ client, ...served });
      return answer;
    }
    const hash = question();
    const pay = () => this.record({ client, ...served, key, question: hash });
    return this.keys.once(client, key, hash, { compute, encode, pay });
  }

  /** Usage of all clients, or of the one with this name or this API key. */
  report(filter?: string): UsageReport {
    return this.usage.report(filter);
  }

  /** Begins new books: nothing has been served, and no idempotency key has been used. */
  reset(): void {
    this.log?.clear();
    this.usage.reset();
    this.keys?.clear();
  }

  close(): void {
    this.log?.close();
  }

  private record(entry: Entry): void {
    const purchase: Purchase = { ...entry, time: new Date().toISOString() };
    this.log?.append(purchase);
    this.count(purchase);
  }

  private count(purchase: Purchase): void {
    const { client, key, question, time } = purchase;
    this.usage.count(client, purchase);
    if (key === undefined || question === undefined) return;
    this.keys?.remember({ client, key, question, time: Date.parse(time) });
  }
}
