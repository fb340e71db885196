import type { Database } from '../db/client.js';
import type { PaidAnswer } from '../ledger/reservation.js';
import type { Question } from '../providers/ask.js';
import type { Provider } from '../providers/provider.js';

const LARGEST_KEPT_ANSWER = 256 * 1024 * 1024;

/** One call of a generation: where it stands in the plan, and everything that is asked. */
export interface AnsweredCall extends Question {
  generation: number;
  chunk: number;
  /** SHA-256 of all that is asked. */
  hash: Uint8Array<ArrayBuffer>;
}

/**
 * Answers that an earlier run of a job paid for and that no saved training state holds yet. The ledger stores them with
 * their settlement; here they are looked up, so that a resumed job asks only for what it has no answer to.
 */
export class StoredAnswers {
  private constructor(
    private readonly database: Database,
    private readonly jobId: string,
    private readonly known: Set<string>,
  ) {}

  /** Reads which calls are answered, once; what this run itself is answered it never asks for again. */
  static async open(database: Database, jobId: string): Promise<StoredAnswers> {
    const rows = await database.storedAnswer.findMany({ where: { jobId }, select: { generation: true, chunk: true } });
    return new StoredAnswers(database, jobId, new Set(rows.map(({ generation, chunk }) => `${generation}/${chunk}`)));
  }

  /** Whether a call of a generation is answered. */
  has(generation: number, chunk: number): boolean {
    return this.known.has(`${generation}/${chunk}`);
  }

  /** @returns the logits, or null where this very question has no stored answer */
  async find(call: AnsweredCall): Promise<Float32Array | null> {
    const { generation, chunk } = call;
    if (!this.has(generation, chunk)) return null;
    const row = await this.database.storedAnswer.findUnique({
      where: { jobId_generation_chunk: { jobId: this.jobId, generation, chunk } },
    });
    if (!row || !Buffer.from(row.callHash).equals(call.hash)) return null;
    // A copy, because the driver's bytes need not be aligned to four.
    return new Float32Array(row.logits.slice().buffer);
  }
}

/** The form in which the ledger keeps an answer; an answer too large to be worth keeping is not. */
export function toPaidAnswer(call: AnsweredCall, logits: Float32Array): PaidAnswer | undefined {
  if (logits.byteLength > LARGEST_KEPT_ANSWER) return undefined;
  return {
    callHash: call.hash,
    logits: new Uint8Array(logits.buffer as ArrayBuffer, logits.byteOffset, logits.byteLength),
  };
}

/**
 * Names the purchase of a call: the same for every attempt and every worker, and another for another question, for another
 * account or address at the provider, and after an answer that was paid for but of no use.
 */
export function purchaseKey(
  jobId: string,
  provider: Provider,
  { generation, chunk, hash }: Pick<AnsweredCall, 'generation' | 'chunk' | 'hash'>,
  useless: number,
): string {
  const question = Buffer.from(hash.subarray(0, 8)).toString('hex');
  const again = useless === 0 ? '' : `/${useless}`;
  return `${purchasePrefix(jobId, provider, generation)}${chunk}/${question}${again}`;
}

export function purchasePrefix(jobId: string, { accountFingerprint }: Provider, generation: number): string {
  return `${jobId}/${accountFingerprint}/${generation}/`;
}
