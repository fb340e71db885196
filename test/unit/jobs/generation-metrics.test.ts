import { describe, expect, it } from 'vitest';
import type { GenerationReport } from '../../../src/craft/trainer-interface.js';
import { toEvent, toJobMetrics, withFigures } from '../../../src/jobs/generation-metrics.js';

const REPORT: GenerationReport = {
  generation: 2,
  bestFitness: null,
  meanFitness: null,
  stepSize: null,
  template: null,
  centreLoss: 0.93958,
  trainAccuracy: 1,
  blackBoxTrainAccuracy: 0.7,
  validationAccuracy: null,
  validationLoss: null,
  headLoss: 0.1,
  heldOutAccuracy: null,
  consistencyActive: false,
  candidateEvaluations: 2,
};
const messageOf = (more: Partial<GenerationReport>) => toEvent(toJobMetrics({ ...REPORT, ...more }), 4).message;

describe('the event of a generation', () => {
  it('tells the accuracy on training images', () => {
    expect(messageOf({})).toBe('Generation 2/4: loss 0.9396, training accuracy 100.00 %');
  });

  it('tells that on images held out where there is one', () => {
    expect(messageOf({ heldOutAccuracy: 0.7159 })).toBe(
      'Generation 2/4: loss 0.9396, accuracy on images held out 71.59 %',
    );
  });

  it('tells that on validation images, too', () => {
    expect(messageOf({ validationAccuracy: 0.5 })).toBe(
      'Generation 2/4: loss 0.9396, training accuracy 100.00 %, validation accuracy 50.00 %',
    );
  });
});

describe('withFigures', () => {
  const metrics = toJobMetrics(REPORT);

  it('says of an adapter what its own head does, and leaves what is of the generation', () => {
    const own = { ...REPORT, headLoss: 0.2, trainAccuracy: 0.9, validationAccuracy: 0.5, validationLoss: 1.5 };
    expect(withFigures(metrics, own)).toEqual({
      ...metrics,
      head_loss: 0.2,
      train_accuracy: 0.9,
      validation_accuracy: 0.5,
      validation_loss: 1.5,
    });
  });

  it('leaves metrics as they are where the generation was told of the same head', () => {
    expect(withFigures(metrics)).toBe(metrics);
  });
});
