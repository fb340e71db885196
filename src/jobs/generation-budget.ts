import type { Database } from '../db/client.js';
import { shortfall } from '../ledger/accounts.js';
import { type Ledger, sureWindowMs } from '../ledger/ledger.js';
import { addAmounts, amountsOfImages, type CallTexts, NOTHING } from '../providers/amounts.js';
import { sentSizes } from '../providers/call-limits.js';
import type { PromptSpace, Provider } from '../providers/provider.js';
import type { LabelledImages } from './labelled-images.js';
import { amountsOf, generationCalls, type TrainingPlan } from './plan.js';
import { purchasePrefix, type StoredAnswers } from './stored-answers.js';

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
    const { jobId, ledger, provider, images, texts, plan, answers, space } = this.options;
    const sizes = (set: 'training' | 'validation') => sentSizes(provider.capabilities, images[set].images);
    const calls = generationCalls({
      space,
      populationSize: candidates,
      trainingImages: sizes('training'),
      validationImages: sizes('validation'),
      classCount: images.classes.length,
      calls: plan,
    });
    const drawn = await this.drawnBefore(generation);
    const missing = calls.filter(({ chunk }) => !answers.has(generation, chunk) && !drawn.has(chunk));
    const needed = amountsOf(missing, provider, texts);
    const shortage = shortfall(jobId, 'job', needed, await ledger.balance(jobId));
    if (shortage) throw shortage;
  }

  /**
   * Nothing is spent on images of a job that could not run one generation on them.
   * @param imageCounts images of each call that embeds some
   * @throws LimitReachedError
   */
  async requireImages(imageCounts: number[]): Promise<void> {
    const { jobId, ledger, provider, plan } = this.options;
    const images = imageCounts.map((count) => amountsOfImages(provider, count));
    const needed = [plan.perGeneration, ...images].reduce(addAmounts, NOTHING);
    const shortage = shortfall(jobId, 'job', needed, await ledger.balance(jobId));
    if (shortage) throw shortage;
  }

  /** Calls that an earlier run has drawn, and that their idempotency key makes the same purchase now. */
  private async drawnBefore(generation: number): Promise<Set<number>> {
    const { jobId, database, provider } = this.options;
    const { idempotency } = provider.capabilities;
    if (!idempotency || generation > this.options.recorded + UNRECORDED) return new Set();
    const rows = await database.reservation.findMany({
      where: {
        accountId: jobId,
        generation,
        state: { in: ['settled', 'unknown', 'reserved'] },
        purchaseKey: { startsWith: purchasePrefix(jobId, provider, generation), not: { contains: '#' } },
        createdAt: { gt: new Date(Date.now() - sureWindowMs(idempotency.windowSeconds)) },
      },
      select: { chunk: true },
    });
    return new Set(rows.flatMap(({ chunk }) => (chunk === null ? [] : [chunk])));
  }
}
