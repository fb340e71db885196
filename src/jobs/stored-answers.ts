import { createHash } from 'node:crypto';
import type { Database } from '../db/client.js';
import type { PaidAnswer } from '../ledger/ledger.js';
import type { ProviderImage } from '../providers/provider.js';

const LARGEST_KEPT_ANSWER = 256 * 1024 * 1024;

/** One call of a generation: where it stands in the plan, and everything that is asked. */
export interface AnsweredCall {
  /** Protocol and name of the model; not its address, which changes with a restart. */
  model: string;
  generation: number;
  chunk: number;
  /** [P, m, d] */
  prompts: Float32Array;
  images: ProviderImage[];
  classNames: string[];
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

  /** Whether anything of a generation is answered. */
  hasOf(generation: number): boolean {
    return [...this.known].some((key) => key.startsWith(`${generation}/`));
  }

  /** @returns the logits, or null where this very question has no stored answer */
  async find(call: AnsweredCall): Promise<Float32Array | null> {
    const { generation, chunk } = call;
    if (!this.known.has(`${generation}/${chunk}`)) return null;
    const row = await this.database.storedAnswer.findUnique({
      where: { jobId_generation_chunk: { jobId: this.jobId, generation, chunk } },
    });
    if (!row || !Buffer.from(row.callHash).equals(hashCall(call))) return null;
    // A copy, because the driver's bytes need not be aligned to four.
    return new Float32Array(row.logits.slice().buffer);
  }
}

/** The form in which the ledger keeps an answer; an answer too large to be worth keeping is not. */
export function toPaidAnswer(call: AnsweredCall, logits: Float32Array): PaidAnswer | undefined {
  if (logits.byteLength > LARGEST_KEPT_ANSWER) return undefined;
  return {
    callHash: hashCall(call),
    logits: new Uint8Array(logits.buffer as ArrayBuffer, logits.byteOffset, logits.byteLength),
  };
}

function hashCall({ model, prompts, images, classNames }: AnsweredCall): Uint8Array<ArrayBuffer> {
  const hash = createHash('sha256');
  hash.update(new Uint8Array(prompts.buffer, prompts.byteOffset, prompts.byteLength));
  hash.update(JSON.stringify([model, images.map(({ sha256 }) => sha256), classNames]));
  return new Uint8Array(hash.digest());
}
