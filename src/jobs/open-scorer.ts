import type { PromptProblem } from '../craft/trainer.js';
import type { Database } from '../db/client.js';
import { ImageEmbeddings } from '../embeddings/image-embeddings.js';
import type { Ledger } from '../ledger/ledger.js';
import { Circuit } from '../providers/circuit.js';
import type { Provider } from '../providers/provider.js';
import { EmbeddedImages } from './embedded-images.js';
import { GenerationBudget } from './generation-budget.js';
import { JobCalls } from './job-calls.js';
import type { JobOwnership } from './job-ownership.js';
import { callTextsOf, classTextsOf, startPromptOf } from './job-question.js';
import type { LabelledImages } from './labelled-images.js';
import { MeteredScorer } from './metered-scorer.js';
import type { TrainingPlan } from './plan.js';
import type { ScoredPrompts } from './scored-prompts.js';
import type { StoredAnswers } from './stored-answers.js';

/** When a job stops sending calls to a provider that fails. */
const CIRCUIT = { threshold: 3, baseDelayMs: 1000, maxDelayMs: 30_000 };

export interface ScorerInputs {
  database: Database;
  ledger: Ledger;
  worker: string;
  signal: AbortSignal;
  ownership: JobOwnership;
  provider: Provider;
  images: LabelledImages;
  prompt: PromptProblem;
  plan: TrainingPlan;
  answers: StoredAnswers;
  scored: ScoredPrompts;
}

/**
 * Everything that stands between a job's trainer and its provider. Embeddings of images that nobody has paid for are
 * brought first.
 * @throws as `persistentCall` does
 */
export async function openScorer(inputs: ScorerInputs): Promise<MeteredScorer> {
  const { database, ownership, provider, images, prompt, plan, answers, scored } = inputs;
  const { ledger, worker, signal } = inputs;
  const { job, epoch } = ownership;
  const texts = callTextsOf(prompt, classTextsOf(images));
  const asking = {
    ...{ jobId: job.id, apiKeyId: job.apiKeyId, texts, callLimits: plan, worker, ledger, signal },
    circuit: new Circuit({ ...CIRCUIT, patienceMs: job.providerPatienceSeconds * 1000 }),
    guard: { kind: 'running_job' as const, epoch },
  };
  const budget = new GenerationBudget({
    ...asking,
    ...{ database, plan, provider, images, answers, recorded: job.generation, space: prompt.space },
  });
  const embedded =
    provider.kind === 'embedding'
      ? await EmbeddedImages.open(new ImageEmbeddings(database), provider, images, {
          ...asking,
          calls: new JobCalls({ ...asking, provider }),
          limits: plan.imageCalls ?? plan,
          requireBudget: (counts) => budget.requireImages(counts),
          probe: { ...asking, prompt: startPromptOf(prompt) },
        })
      : null;
  return new MeteredScorer({
    ...asking,
    ...{ provider, images, answers, scored, embedded },
    requireBudget: (generation, candidates) => budget.require(generation, candidates),
  });
}
