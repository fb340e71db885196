import type { Database, Prisma } from '../db/client.js';
import type { Provider } from '../providers/provider.js';

/** What a text prompt was answered: logits [N, C] on an image set, or the embeddings [C, D] of its texts. */
export interface ScoredPrompt {
  imageSet: string;
  template: string;
  values: Float32Array;
}

/**
 * Names a set of answers: those of a model on an image set, or its embeddings of texts, which serve all images. Another
 * model, or one that embeds otherwise, has a set of its own.
 */
export function answerSetOf(provider: Provider, imageSet: 'training' | 'validation'): string {
  if (provider.kind === 'embedding') return `texts ${provider.textSpace}`;
  return `${imageSet} ${provider.protocol} ${provider.remoteModel}`;
}

/** Answers held in memory beside those that are still to be written. */
const RECENT = 8;

/**
 * The text prompts that a job has had scored, for its whole life: equal prompts are never paid for twice. What a generation
 * scored is written in the transaction that records it, so that the answers of a generation that is under way are found
 * where those of all jobs are, with its calls.
 */
export class ScoredPrompts {
  private readonly unwritten = new Map<string, ScoredPrompt>();
  /** In order of last use, oldest first. */
  private readonly recent = new Map<string, Float32Array>();

  private constructor(
    private readonly database: Database,
    private readonly jobId: string,
    private readonly written: Set<string>,
  ) {}

  static async open(database: Database, jobId: string): Promise<ScoredPrompts> {
    const rows = await database.scoredPrompt.findMany({
      where: { jobId },
      select: { imageSet: true, template: true },
    });
    return new ScoredPrompts(database, jobId, new Set(rows.map(({ imageSet, template }) => keyOf(imageSet, template))));
  }

  /** What those of the templates that were scored were answered. The arrays are not to be changed. */
  async find(imageSet: string, templates: string[]): Promise<Map<string, Float32Array>> {
    const found = new Map<string, Float32Array>();
    const missing: string[] = [];
    for (const template of templates) {
      const key = keyOf(imageSet, template);
      const values = this.unwritten.get(key)?.values ?? this.recent.get(key);
      if (values) found.set(template, values);
      else if (this.written.has(key)) missing.push(template);
    }
    if (missing.length > 0) {
      const rows = await this.database.scoredPrompt.findMany({
        where: { jobId: this.jobId, imageSet, template: { in: missing } },
        select: { template: true, answer: true },
      });
      // A copy, because the driver's bytes need not be aligned to four.
      for (const { template, answer } of rows) found.set(template, new Float32Array(answer.slice().buffer));
    }
    for (const [template, values] of found) this.use(keyOf(imageSet, template), values);
    return found;
  }

  add(prompt: ScoredPrompt): void {
    this.unwritten.set(keyOf(prompt.imageSet, prompt.template), prompt);
  }

  /** All that has been added since it was last taken; to be written with the generation. */
  take(): { prompts: ScoredPrompt[]; written(): void } {
    const prompts = [...this.unwritten.values()];
    return {
      prompts,
      written: () => {
        for (const { imageSet, template } of prompts) {
          const key = keyOf(imageSet, template);
          this.written.add(key);
          this.unwritten.delete(key);
        }
      },
    };
  }

  private use(key: string, values: Float32Array): void {
    this.recent.delete(key);
    this.recent.set(key, values);
    if (this.recent.size > RECENT) this.recent.delete(this.recent.keys().next().value ?? '');
  }
}

/** Inside the transaction that records the generation. */
export async function writeScoredPrompts(
  tx: Prisma.TransactionClient,
  jobId: string,
  generation: number,
  prompts: ScoredPrompt[],
): Promise<void> {
  for (const batch of batches(prompts)) {
    await tx.scoredPrompt.createMany({
      data: batch.map(({ imageSet, template, values }) => ({
        jobId,
        generation,
        imageSet,
        template,
        answer: new Uint8Array(values.buffer as ArrayBuffer, values.byteOffset, values.byteLength),
      })),
      skipDuplicates: true,
    });
  }
}

const BATCH_BYTES = 16 * 1024 * 1024;

function* batches(prompts: ScoredPrompt[]): Generator<ScoredPrompt[]> {
  let batch: ScoredPrompt[] = [];
  let bytes = 0;
  for (const prompt of prompts) {
    if (batch.length > 0 && bytes + prompt.values.byteLength > BATCH_BYTES) {
      yield batch;
      batch = [];
      bytes = 0;
    }
    batch.push(prompt);
    bytes += prompt.values.byteLength;
  }
  if (batch.length > 0) yield batch;
}

function keyOf(imageSet: string, template: string): string {
  return `${imageSet}/${template}`;
}
