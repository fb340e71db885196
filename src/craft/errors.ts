/** The errors of the algorithm. They know nothing of HTTP; whoever calls the algorithm decides what each one means. */

/** A checkpoint is damaged, of another version, or belongs to another problem. */
export class CheckpointError extends Error {
  override name = 'CheckpointError';
}

/** The scoring function broke its contract: an index out of range, a wrong length, a missing or repeated answer. */
export class ScoringContractError extends Error {
  override name = 'ScoringContractError';
}

/** The black box answered embeddings of another length than before: it is not the same model any longer. */
export class EmbeddingsChangedError extends Error {
  override name = 'EmbeddingsChangedError';
}

/** The black box answered logits that are NaN or infinite. */
export class NonFiniteLogitsError extends Error {
  override name = 'NonFiniteLogitsError';
}

/** A search was told a fitness that is NaN or infinite. */
export class NonFiniteFitnessError extends Error {
  override name = 'NonFiniteFitnessError';
}

/** A method was called in a state that does not allow it, such as after a failed generation. */
export class TrainerStateError extends Error {
  override name = 'TrainerStateError';
}

/** The training problem itself makes no sense: a label out of range, a wrong length. */
export class InvalidProblemError extends Error {
  override name = 'InvalidProblemError';
}

/** The asked-for TensorFlow.js backend cannot be had on this machine. */
export class ComputeUnavailableError extends Error {
  override name = 'ComputeUnavailableError';
}

/** The refinement head ran off to infinity, as a learning rate far too large makes it do. */
export class TrainingDivergedError extends Error {
  override name = 'TrainingDivergedError';
}
