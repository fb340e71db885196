import { createHash, randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Logger } from 'pino';
import type { Database, Prisma } from '../db/client.js';
import { ConflictError } from '../errors.js';
import type { QueryAmounts } from '../providers/provider.js';

/** A request that its caller may send again, because the first answer can get lost on its way. */
export interface RepeatableRequest {
  apiKeyId: string;
  /** Its Idempotency-Key. */
  key: string;
  /** All that decides the answer. A repetition asks for the same. */
  content: unknown;
}

/** What was answered to a call, with what the ledger counts of it. */
export interface KeptAnswer {
  answer: Float32Array;
  usage: QueryAmounts;
}

/** The provider calls of one request: those that an earlier attempt at it was answered are not paid for again. */
export interface RepeatableCalls {
  /** Names the request, whoever answers it: what one that died has claimed is the next one's. */
  readonly owner: string;
  /** Names the purchase of a call: the same for every repetition of the request, another for everything else. */
  purchaseKey(call: { accountId: string; accountFingerprint: string; hash: Uint8Array }): string;
  find(chunk: number, hash: Uint8Array<ArrayBuffer>): Promise<KeptAnswer | null>;
  keep(chunk: number, hash: Uint8Array<ArrayBuffer>, call: KeptAnswer): Promise<void>;
}

export interface RepeatableOptions {
  /** For how long it is believed of a process that it works on an answer, without a sign of life from it. */
  leaseMs: number;
  /** How long a repetition waits for an answer that is being worked on. */
  patienceMs: number;
}

/** How long an answer is kept. */
const KEPT_HOURS = 24;
const LOOK_AGAIN_MS = 100;

/** Answers a request with an Idempotency-Key once, whatever number of times, in however many processes, it arrives. */
export class RepeatableRequests {
  constructor(
    private readonly database: Database,
    private readonly log: Logger,
    private readonly options: RepeatableOptions = { leaseMs: 15_000, patienceMs: 30_000 },
  ) {}

  /**
   * @param work answers the request; it is asked for once, or again after it failed or its process died
   * @returns the answer, a plain object of JSON, and whether it is that of an earlier request
   * @throws ConflictError when the key was used for another request, or that one is not answered in time; and as `work` throws
   */
  async answer<Answer extends object>(
    { apiKeyId, key, content }: RepeatableRequest,
    work: (calls: RepeatableCalls) => Promise<Answer>,
  ): Promise<{ answer: Answer; isRepeated: boolean }> {
    const requestHash = sha256(content);
    const giveUpAt = Date.now() + this.options.patienceMs;
    for (;;) {
      const claim = new Claim(
        this.database,
        { apiKeyId, key, claimedBy: randomUUID() },
        this.options.leaseMs,
        this.log,
      );
      if (await claim.take(requestHash)) return { answer: await claim.answer(work), isRepeated: false };
      const row = await this.database.idempotentRequest.findUnique({ where: { apiKeyId_key: { apiKeyId, key } } });
      if (row && !Buffer.from(row.requestHash).equals(requestHash)) throw usedOtherwise();
      if (row?.response) return { answer: row.response as Answer, isRepeated: true };
      if (Date.now() >= giveUpAt) throw stillAnswered();
      await sleep(LOOK_AGAIN_MS);
    }
  }

  /** Drops answers that are long known to their callers. @returns how many */
  async dropOld(): Promise<number> {
    const now = new Date();
    const isUnclaimed = { OR: [{ claimedUntil: null }, { claimedUntil: { lt: now } }] };
    const { count } = await this.database.idempotentRequest.deleteMany({
      where: { expiresAt: { lt: now }, ...isUnclaimed },
    });
    return count;
  }
}

/** This process's claim to be the one that answers a request. */
class Claim implements RepeatableCalls {
  readonly owner: string;

  constructor(
    private readonly database: Database,
    private readonly id: { apiKeyId: string; key: string; claimedBy: string },
    private readonly leaseMs: number,
    private readonly log: Logger,
  ) {
    this.owner = named([id.apiKeyId, id.key]);
  }

  /** @returns whether nobody has answered the request, or is about to */
  async take(requestHash: Uint8Array): Promise<boolean> {
    const { apiKeyId, key, claimedBy } = this.id;
    const taken = await this.database.$executeRaw`
      INSERT INTO idempotent_requests AS known (api_key_id, key, request_hash, claimed_by, claimed_until, expires_at)
        VALUES (${apiKeyId}, ${key}, ${requestHash}, ${claimedBy}, now() + make_interval(secs => ${this.leaseMs / 1000}),
          now() + make_interval(hours => ${KEPT_HOURS}::int))
        ON CONFLICT (api_key_id, key) DO UPDATE
          SET claimed_by = excluded.claimed_by, claimed_until = excluded.claimed_until, expires_at = excluded.expires_at
          WHERE known.status IS NULL AND known.claimed_until < now() AND known.request_hash = excluded.request_hash`;
    return taken > 0;
  }

  async answer<Answer extends object>(work: (calls: RepeatableCalls) => Promise<Answer>): Promise<Answer> {
    const renewal = setInterval(() => void this.tried(this.hold()), this.leaseMs / 3);
    try {
      const answer = await work(this);
      // Where that fails the answer is still there for this caller.
      await this.tried(this.complete(answer));
      return answer;
    } catch (error) {
      await this.tried(this.giveUp());
      throw error;
    } finally {
      clearInterval(renewal);
    }
  }

  purchaseKey(call: { accountId: string; accountFingerprint: string; hash: Uint8Array }): string {
    const { apiKeyId, key } = this.id;
    const { accountId, accountFingerprint } = call;
    return named([apiKeyId, key, accountId, accountFingerprint, Buffer.from(call.hash).toString('hex')]);
  }

  async find(chunk: number, hash: Uint8Array): Promise<KeptAnswer | null> {
    const { apiKeyId, key } = this.id;
    const row = await this.database.answeredCall.findUnique({
      where: { apiKeyId_key_chunk: { apiKeyId, key, chunk } },
    });
    if (!row || !Buffer.from(row.callHash).equals(hash)) return null;
    // A copy, because the driver's bytes need not be aligned to four.
    return { answer: new Float32Array(row.answer.slice().buffer), usage: row.usage as unknown as QueryAmounts };
  }

  async keep(chunk: number, hash: Uint8Array<ArrayBuffer>, { answer, usage }: KeptAnswer): Promise<void> {
    const { apiKeyId, key } = this.id;
    const bytes = new Uint8Array(answer.buffer as ArrayBuffer, answer.byteOffset, answer.byteLength);
    const call = { callHash: hash, answer: bytes, usage: { ...usage } };
    const where = { apiKeyId_key_chunk: { apiKeyId, key, chunk } };
    await this.tried(
      this.database.answeredCall.upsert({ where, create: { apiKeyId, key, chunk, ...call }, update: call }),
    );
  }

  private async hold(): Promise<void> {
    const { apiKeyId, key, claimedBy } = this.id;
    await this.database.$executeRaw`
      UPDATE idempotent_requests SET claimed_until = now() + make_interval(secs => ${this.leaseMs / 1000})
        WHERE api_key_id = ${apiKeyId} AND key = ${key} AND claimed_by = ${claimedBy}`;
  }

  private async complete(answer: object): Promise<void> {
    const { apiKeyId, key } = this.id;
    const response = answer as Prisma.InputJsonObject;
    await this.database.$transaction([
      this.database.idempotentRequest.updateMany({
        where: this.id,
        data: { status: 200, response, claimedBy: null, claimedUntil: null },
      }),
      this.database.answeredCall.deleteMany({ where: { apiKeyId, key, request: { status: 200 } } }),
    ]);
  }

  /** Whoever asks again need not wait. What was paid for stays; where nothing was, the key is as if it had never been used. */
  private async giveUp(): Promise<void> {
    await this.database.idempotentRequest.deleteMany({ where: { ...this.id, calls: { none: {} } } });
    // Nobody's from now on: a renewal that is still under way finds nothing.
    await this.database.idempotentRequest.updateMany({
      where: this.id,
      data: { claimedBy: null, claimedUntil: new Date(0) },
    });
  }

  private async tried(step: Promise<unknown>): Promise<void> {
    await step.catch((err) => this.log.warn({ err }, 'a request with an Idempotency-Key could not be noted'));
  }
}

function named(parts: string[]): string {
  return `repeatable/${Buffer.from(sha256(parts)).toString('hex')}`;
}

function sha256(content: unknown): Uint8Array<ArrayBuffer> {
  return new Uint8Array(createHash('sha256').update(JSON.stringify(content)).digest());
}

function usedOtherwise(): ConflictError {
  return new ConflictError({
    code: 'idempotency_key_reused',
    param: 'Idempotency-Key',
    message: 'This Idempotency-Key was used with a different request. Use a new key for a new request.',
  });
}

function stillAnswered(): ConflictError {
  return new ConflictError({
    code: 'request_in_progress',
    param: 'Idempotency-Key',
    message: 'The first request with this Idempotency-Key is still being answered. Send it again to get its answer.',
    retryAfterSeconds: 2,
  });
}
