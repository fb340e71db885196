import type { PromptProblem, Score } from '../craft/trainer.js';
import type { Database } from '../db/client.js';
import { ImageEmbeddings } from '../embeddings/image-embeddings.js';
import type { Ledger } from '../ledger/ledger.js';
import type { CallTexts } from '../providers/amounts.js';
import { Circuit } from '../providers/circuit.js';
import type { Provider, QueryAmounts } from '../providers/provider.js';
import { EmbeddedImages } from './embedded-images.js';
import { GenerationBudget } from './generation-budget.js';
import { JobCalls } from './job-calls.js';
import type { JobOwnership } from './job-ownership.js';
import { callTextsOf, classTextsOf, startPromptOf, withProbes } from './job-question.js';
import type { LabelledImages } from './labelled-images.js';
import { MeteredScorer } from './metered-scorer.js';
import type { TrainingPlan } from './plan.js';
import type { ScoredImages } from './scored-images.js';
import type { ScoredPrompts } from './scored-prompts.js';
import type { StoredAnswers } from './stored-answers.js';
import { ViewScorer } from './view-scorer.js';

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

/** What all calls of a run are made with. */
function askingOf({ ownership, plan, worker, ledger, signal }: ScorerInputs, texts: CallTexts) {
  const { job, epoch } = ownership;
  return {
    ...{ jobId: job.id, apiKeyId: job.apiKeyId, texts, callLimits: plan, worker, ledger, signal },
    circuit: new Circuit({ ...CIRCUIT, patienceMs: job.providerPatienceSeconds * 1000 }),
    guard: { kind: 'running_job' as const, epoch },
  };
}

/** Answers the requests of a generation. */
export interface GenerationScorer {
  forGeneration(generation: number): Score;
}

/**
 * Everything that stands between a job's trainer and its provider. Embeddings of images that nobody has paid for are
 * brought first.
 * @throws as `persistentCall` does
 */
export async function openScorer(inputs: ScorerInputs): Promise<GenerationScorer> {
  const { database, ownership, provider, images, prompt, plan, answers, scored } = inputs;
  const classes = classTextsOf(images);
  const texts = callTextsOf(prompt, plan.strategy === 'economy' ? withProbes(classes, plan.probes ?? []) : classes);
  const asking = askingOf(inputs, texts);
  const { job } = ownership;
  const budget = new GenerationBudget({
    ...asking,
    ...{ database, plan, provider, images, answers, recorded: job.generation, space: prompt.space },
  });
  const store = new ImageEmbeddings(database);
  const bring = (sets: ScoredImages, generation: number, further: QueryAmounts) =>
    provider.kind === 'embedding'
      ? EmbeddedImages.open(store, provider, sets, images.classes.length, {
          ...asking,
          calls: new JobCalls({ ...asking, provider }),
          generation,
          limits: plan.imageCalls ?? plan,
          requireBudget: (calls) => budget.requireImages(calls, generation, further),
          probe: { ...asking, prompt: startPromptOf(prompt) },
        })
      : Promise.resolve(null);
  if (plan.strategy === 'economy') {
    return new ViewScorer({ ...asking, ...{ provider, images, answers, scored, plan, budget, bring } });
  }
  const embedded = await bring(images, 0, plan.perGeneration);
  return new MeteredScorer({
    ...asking,
    ...{ provider, images, answers, scored, embedded },
    requireBudget: (generation, candidates) => budget.require(generation, candidates),
  });
}
