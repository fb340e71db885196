import { describe, expect, it } from 'vitest';
import * as craft from '../../../src/craft/errors.js';
import { NotFoundError } from '../../../src/errors.js';
import { toTrainingFailure } from '../../../src/jobs/training-failure.js';
import { DeadlinePassedError } from '../../../src/ledger/reservation.js';

describe('toTrainingFailure', () => {
  it.each<[Error, string, string | null, RegExp]>([
    [
      new DeadlinePassedError('Too late.'),
      'deadline_passed',
      'deadline',
      /^Too late\. Not one generation .* new job\.$/,
    ],
    [new craft.NonFiniteFitnessError('NaN.'), 'training_diverged', 'method.craft.hyperparameters', /Lower/],
    [new craft.TrainingDivergedError('Infinity.'), 'training_diverged', 'method.craft.hyperparameters', /Lower/],
    [new craft.NonFiniteLogitsError('NaN.'), 'provider_answer_invalid', 'model', /^NaN\. Check/],
    [
      new craft.EmbeddingsChangedError('9, after 8.'),
      'provider_answer_invalid',
      'model',
      /^9, after 8\. .* new job\.$/,
    ],
    [new craft.ComputeUnavailableError('No GPU.'), 'compute_unavailable', null, /^No GPU\.$/],
    [new craft.CheckpointError('Damaged.'), 'training_state_invalid', null, /new job/],
    [new craft.InvalidProblemError('No images.'), 'training_state_invalid', null, /new job/],
  ])('has words for %s', (error, code, param, message) => {
    const failure = toTrainingFailure(error);
    expect(failure).toMatchObject({ code, param, message: expect.stringMatching(message), cause: error });
  });

  it('leaves what has its words already', () => {
    const error = new NotFoundError({ code: 'file_not_found', param: 'training_file', message: 'Gone.' });
    expect(toTrainingFailure(error)).toBe(error);
  });

  it.each([
    new craft.ScoringContractError('A bug.'),
    new craft.TrainerStateError('A bug.'),
    new Error('Postgres is gone.'),
    'not even an error',
  ])('leaves to the queue what is not the doing of the job: %s', (error) => {
    expect(toTrainingFailure(error)).toBeNull();
  });
});
