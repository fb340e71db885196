import {
  CheckpointError,
  ComputeUnavailableError,
  EmbeddingsChangedError,
  InvalidProblemError,
  NonFiniteFitnessError,
  NonFiniteLogitsError,
  TrainingDivergedError,
} from '../craft/errors.js';
import { CraftError } from '../errors.js';
import { DeadlinePassedError } from '../ledger/reservation.js';

/**
 * The error that ends a job, in the caller's words. Null for everything that is not the job's own doing (Postgres gone, a
 * bug): the queue tries those again.
 */
export function toTrainingFailure(error: unknown): CraftError | null {
  if (error instanceof CraftError) return error;
  if (error instanceof DeadlinePassedError) {
    return failure('deadline_passed', 'deadline', error, 'Not one generation was complete by then. Start a new job.');
  }
  if (error instanceof NonFiniteFitnessError || error instanceof TrainingDivergedError) {
    return failure(
      'training_diverged',
      'method.craft.hyperparameters',
      error,
      'Lower head_learning_rate or initial_step_size.',
    );
  }
  if (error instanceof NonFiniteLogitsError) {
    return failure('provider_answer_invalid', 'model', error, 'Check what the provider answers.');
  }
  if (error instanceof EmbeddingsChangedError) {
    return failure('provider_answer_invalid', 'model', error, 'Its model was replaced meanwhile. Start a new job.');
  }
  if (error instanceof ComputeUnavailableError) return failure('compute_unavailable', null, error);
  if (error instanceof CheckpointError || error instanceof InvalidProblemError) {
    return failure('training_state_invalid', null, error, 'Start a new job.');
  }
  return null;
}

function failure(code: string, param: string | null, cause: Error, remedy = ''): CraftError {
  return new CraftError(500, 'server_error', { code, param, message: `${cause.message} ${remedy}`.trim(), cause });
}
