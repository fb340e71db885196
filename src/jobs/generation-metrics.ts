import type { NewJobEvent } from './events.js';
import type { JobMetrics } from './job-ownership.js';

/** What is made of one generation's figures: which are the best, and how they are told. */

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
