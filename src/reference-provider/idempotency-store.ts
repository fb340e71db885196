import { createHash } from 'node:crypto';
import { IdempotencyKeyReusedError } from './idempotency-key.js';
import { LruCache } from './lru.js';

export interface IdempotencyLimits {
  /** How long a key is known after its answer was served. */
  windowSeconds: number;
  /** Keys known at most; the oldest are forgotten first. */
  maxKeys: number;
  /** Bytes of numbers kept; the answer of a known key that is not kept any more is computed again. */
  maxAnswerBytes: number;
}

/** A key under which an answer was served. */
export interface PaidKey {
  client: string;
  key: string;
  /** Hash of the question that was answered. */
  question: string;
  /** Milliseconds since 1970. */
  time: number;
}

/** How an answer comes about. */
export interface Answering<A> {
  compute(): Promise<Float32Array>;
  encode(numbers: Float32Array): A;
  /** Books the answer, once, before anybody gets it; has to call {@link IdempotencyStore.remember}. */
  pay(): void;
}

/** Which idempotency keys have been paid for, and the answers to them. */
export class IdempotencyStore {
  /** In the order in which they were paid. */
  private readonly paid = new Map<string, { question: string; time: number }>();
  private readonly answers: LruCache<Float32Array>;
  /** Answers being computed; these promises are never rejected. */
  private readonly running = new Map<string, Promise<void>>();

  /** @param now milliseconds since 1970. */
  constructor(
    private readonly limits: IdempotencyLimits,
    private readonly now: () => number = Date.now,
  ) {
    this.answers = new LruCache(limits.maxAnswerBytes);
  }

  /**
   * Answers `question`, paying only if `key` has not been paid for.
   * @throws IdempotencyKeyReusedError when `key` was paid for another question.
   */
  async once<A>(client: string, key: string, question: string, answering: Answering<A>): Promise<A> {
    const id = idOf(client, key);
    while (this.running.has(id)) await this.running.get(id);
    const paid = this.find(id);
    if (paid !== undefined && paid.question !== question) throw new IdempotencyKeyReusedError();
    const known = paid && this.answers.get(id);
    if (known !== undefined) return answering.encode(known);

    const answer = this.answer(id, paid !== undefined, answering);
    const done = () => void this.running.delete(id);
    this.running.set(id, answer.then(done, done));
    return answer;
  }

  remember({ client, key, question, time }: PaidKey): void {
    const id = idOf(client, key);
    this.paid.delete(id);
    this.paid.set(id, { question, time });
    for (const [oldest, { time }] of this.paid) {
      if (this.paid.size <= this.limits.maxKeys && !this.isOver(time)) break;
      this.forget(oldest);
    }
  }

  clear(): void {
    this.paid.clear();
    this.answers.clear();
  }

  private async answer<A>(id: string, paid: boolean, { compute, encode, pay }: Answering<A>): Promise<A> {
    const numbers = await compute();
    const answer = encode(numbers);
    if (!paid) pay();
    this.answers.set(id, numbers, numbers.byteLength);
    return answer;
  }

  private find(id: string): { question: string } | undefined {
    const paid = this.paid.get(id);
    if (paid === undefined || !this.isOver(paid.time)) return paid;
    this.forget(id);
    return undefined;
  }

  private forget(id: string): void {
    this.paid.delete(id);
    this.answers.delete(id);
  }

  private isOver(time: number): boolean {
    return this.now() - time > 1000 * this.limits.windowSeconds;
  }
}

// Of one length, however long the key: what a million of them take is bounded.
function idOf(client: string, key: string): string {
  return createHash('sha256').update(`${client}\n${key}`).digest('base64');
}
