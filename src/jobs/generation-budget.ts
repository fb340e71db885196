import type { Database, Prisma } from '../db/client.js';
import type { ImageCall } from '../embeddings/image-embeddings.js';
import { shortfall } from '../ledger/accounts.js';
import { type Ledger, sureWindowMs } from '../ledger/ledger.js';
import { addAmounts, amountsOfImages, type CallTexts, NOTHING } from '../providers/amounts.js';
import { sentSizes } from '../providers/call-limits.js';
import type { CallRange } from '../providers/calls.js';
import type { PromptSpace, Provider, QueryAmounts } from '../providers/provider.js';
import { hashImages } from '../providers/question-hash.js';
import type { LabelledImages } from './labelled-images.js';
import { amountsOf, generationCalls, type TrainingPlan } from './plan.js';
import { purchaseKey, purchasePrefix, type StoredAnswers } from './stored-answers.js';

export interface GenerationBudgetOptions {
  jobId: string;
  database: Database;
  ledger: Ledger;
  provider: Provider;
  images: LabelledImages;
  texts: CallTexts;
  plan: TrainingPlan;
  answers: StoredAnswers;
  space: PromptSpace;
  /** Generations that were recorded when this run began. */
  recorded: number;
}

/** Generations that a run may have begun beyond the last one it recorded: a record is written while the next is under way. */
const UNRECORDED = 2;

/** Nothing is spent on a generation that the budget cannot complete, counting what of it is paid for already. */
export class GenerationBudget {
  constructor(private readonly options: GenerationBudgetOptions) {}

  /** @param candidates those that have to be asked about @throws LimitReachedError */
  async require(generation: number, candidates: number): Promise<void> {
    const { provider, images, plan, space } = this.options;
    const sizes = (set: 'training' | 'validation') => sentSizes(provider.capabilities, images[set].images);
    const calls = generationCalls({
      space,
      populationSize: candidates,
      trainingImages: sizes('training'),
      validationImages: sizes('validation'),
      classCount: images.classes.length,
      calls: plan,
    });
    await this.requireCalls(generation, calls);
  }

  /** @param calls all of a generation @throws LimitReachedError */
  async requireCalls(generation: number, calls: CallRange[]): Promise<void> {
    const { jobId, ledger, provider, texts, answers } = this.options;
    const drawn = await this.drawnBefore(generation);
    const missing = calls.filter(({ chunk }) => !answers.has(generation, chunk) && !drawn.has(chunk));
    const needed = amountsOf(missing, provider, texts);
    const shortage = shortfall(jobId, 'job', needed, await ledger.balance(jobId));
    if (shortage) throw shortage;
  }

  /**
   * Nothing is spent on images of a job that could not run one generation on them.
   * @param calls those that embed images, counted to a generation
   * @param further what one generation needs beside them
   * @throws LimitReachedError
   */
  async requireImages(calls: ImageCall[], generation: number, further: QueryAmounts): Promise<void> {
    const { jobId, ledger, provider } = this.options;
    const drawn = await this.drawnForImages(calls, generation);
    const missing = calls.filter(({ chunk }) => !drawn.has(chunk));
    const images = missing.map((call) => amountsOfImages(provider, call.images.length));
    const needed = [further, ...images].reduce(addAmounts, NOTHING);
    const shortage = shortfall(jobId, 'job', needed, await ledger.balance(jobId));
    if (shortage) throw shortage;
  }

  /** Calls that an earlier run has drawn, and that their idempotency key makes the same purchase now. */
  private async drawnBefore(generation: number): Promise<Set<number>> {
    if (generation > this.options.recorded + UNRECORDED) return new Set();
    const { jobId, provider } = this.options;
    return this.drawn(generation, {
      startsWith: purchasePrefix(jobId, provider, generation),
      not: { contains: '#' },
    });
  }

  private drawnForImages(calls: ImageCall[], generation: number): Promise<Set<number>> {
    const { jobId, provider } = this.options;
    if (provider.kind !== 'embedding') return Promise.resolve(new Set());
    const keys = calls.map(({ chunk, images }) =>
      purchaseKey(jobId, provider, { generation, chunk, hash: hashImages(provider.imageSpace, images) }, 0),
    );
    return this.drawn(generation, { in: keys });
  }

  private async drawn(generation: number, purchaseKey: Prisma.StringFilter): Promise<Set<number>> {
    const { jobId, database, provider } = this.options;
    const { idempotency } = provider.capabilities;
    if (!idempotency) return new Set();
    const rows = await database.reservation.findMany({
      where: {
        accountId: jobId,
        generation,
        state: { in: ['settled', 'unknown', 'reserved'] },
        purchaseKey,
        createdAt: { gt: new Date(Date.now() - sureWindowMs(idempotency.windowSeconds)) },
      },
      select: { chunk: true },
    });
    return new Set(rows.flatMap(({ chunk }) => (chunk === null ? [] : [chunk])));
  }
}
