import type { GenerationReport, HeadFigures } from '../craft/trainer-interface.js';
import type { NewJobEvent } from './events.js';

/** What is made of one generation's figures: which are the best, and how they are told. */

/** Metrics of one generation in the form in which they are stored and answered. */
export type JobMetrics = {
  generation: number;
  best_fitness: number | null;
  mean_fitness: number | null;
  step_size: number | null;
  centre_loss: number;
  head_loss: number;
  /** Absent in what old jobs told. */
  held_out_accuracy?: number | null;
  train_accuracy: number;
  black_box_train_accuracy: number;
  validation_accuracy: number | null;
  validation_loss: number | null;
  /** The current prompt, where it is a text; absent in what old jobs told. */
  prompt?: string | null;
};

export function toJobMetrics(report: GenerationReport): JobMetrics {
  return {
    generation: report.generation,
    best_fitness: report.bestFitness,
    mean_fitness: report.meanFitness,
    step_size: report.stepSize,
    ...figuresOf(report),
    prompt: report.template,
  };
}

/** What an adapter is said to do where its generation was told of another head's figures. */
export function withFigures<Metrics extends { generation: number }>(metrics: Metrics, own?: HeadFigures): Metrics {
  return own ? { ...metrics, ...figuresOf(own) } : metrics;
}

function figuresOf(figures: HeadFigures) {
  return {
    centre_loss: figures.centreLoss,
    head_loss: figures.headLoss,
    held_out_accuracy: figures.heldOutAccuracy,
    train_accuracy: figures.trainAccuracy,
    black_box_train_accuracy: figures.blackBoxTrainAccuracy,
    validation_accuracy: figures.validationAccuracy,
    validation_loss: figures.validationLoss,
  };
}

const METRICS = [
  'generation',
  'best_fitness',
  'mean_fitness',
  'step_size',
  'centre_loss',
  'head_loss',
  'held_out_accuracy',
  'train_accuracy',
  'black_box_train_accuracy',
  'validation_accuracy',
  'validation_loss',
  'prompt',
] as const satisfies (keyof JobMetrics)[];

/** In one order, which Postgres does not keep: the same adapter has the same file. */
export function inOrder<Metrics extends Partial<JobMetrics>>(metrics: Metrics): Metrics {
  return Object.fromEntries(METRICS.flatMap((name) => (name in metrics ? [[name, metrics[name]]] : []))) as Metrics;
}

/** Validation accuracy decides, then validation loss; without validation images the loss of the centre. */
export function isBetter(metrics: JobMetrics, best: JobMetrics | null): boolean {
  if (best === null) return true;
  if (metrics.validation_accuracy === null || best.validation_accuracy === null) {
    return metrics.centre_loss < best.centre_loss;
  }
  if (metrics.validation_accuracy !== best.validation_accuracy) {
    return metrics.validation_accuracy > best.validation_accuracy;
  }
  return (metrics.validation_loss ?? 0) < (best.validation_loss ?? 0);
}

export function toEvent(metrics: JobMetrics, planned: number): NewJobEvent {
  return {
    level: 'info',
    type: 'metrics',
    message: describe(metrics, planned),
    data: { step: metrics.generation, ...metrics },
  };
}

function describe(metrics: JobMetrics, planned: number): string {
  const percent = (share: number) => `${(share * 100).toFixed(2)} %`;
  const validation =
    metrics.validation_accuracy === null ? '' : `, validation accuracy ${percent(metrics.validation_accuracy)}`;
  // A head that compares with its training images is nearly always right about these: that would tell nobody anything.
  const heldOut = metrics.held_out_accuracy ?? null;
  const seen =
    heldOut === null
      ? `training accuracy ${percent(metrics.train_accuracy)}`
      : `accuracy on images held out ${percent(heldOut)}`;
  return `Generation ${metrics.generation}/${planned}: loss ${metrics.centre_loss.toFixed(4)}, ${seen}${validation}`;
}
