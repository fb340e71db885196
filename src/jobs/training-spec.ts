import type { HeadShape } from '../craft/compute.js';
import type { PromptProblem } from '../craft/trainer.js';
import type { TrainingSpec } from '../craft/training.js';
import type { Provider } from '../providers/provider.js';
import { startOf } from './job-question.js';
import type { JobMethod } from './job-request.js';
import type { LabelledImages } from './labelled-images.js';
import type { TrainingPlan } from './plan.js';

/** A job as its trainer knows it. */
export function trainingSpecOf(job: {
  method: JobMethod;
  plan: TrainingPlan;
  images: LabelledImages;
  prompt: PromptProblem;
  provider: Pick<Provider, 'kind'>;
  seed: number;
}): TrainingSpec {
  const { method, plan, images, prompt, provider, seed } = job;
  const common = {
    classCount: images.classes.length,
    labels: images.training.labels,
    validationLabels: images.validation.labels,
  };
  if (plan.strategy !== 'economy') {
    // The schedule is that of the first budget, whatever it was raised to.
    const problem = { ...common, prompt, plannedGenerations: plan.generations };
    return { strategy: 'paper', problem, hyperparameters: method.craft.hyperparameters, seed };
  }
  const inputs =
    provider.kind === 'embedding'
      ? { kind: 'embedding' as const }
      : { kind: 'scores' as const, probes: plan.probes?.length ?? 0 };
  const transforms = plan.transforms?.length ?? 1;
  return { strategy: 'economy', problem: { ...common, prompt: startOf(prompt), inputs, transforms }, seed };
}

/** What decides where the head of a job computes. */
export function headShapeOf({ craft }: JobMethod, plan: TrainingPlan, images: LabelledImages): HeadShape {
  const { head_hidden_width: hiddenWidth, batch_size: batchSize } = craft.hyperparameters;
  const [classCount, count] = [images.classes.length, images.training.labels.length];
  return plan.strategy === 'economy'
    ? { classCount, hiddenWidth: classCount + (plan.probes?.length ?? 0), batch: count }
    : { classCount, hiddenWidth, batch: Math.min(batchSize, count) };
}
