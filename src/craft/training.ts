import type { Compute } from './compute.js';
import { arithmeticFor } from './economy/arithmetic-choice.js';
import { type EconomyProblem, EconomyTrainer } from './economy/economy-trainer.js';
import type { CraftHyperparameters } from './hyperparameters.js';
import type { TrainingProblem } from './problem.js';
import { CraftTrainer } from './trainer.js';
import type { Trainer } from './trainer-interface.js';

/** All that decides a training beside the answers of the black box. Plain data: it can be sent to another thread. */
export type TrainingSpec = {
  /** A safe integer. */
  seed: number;
} & (
  | { strategy: 'paper'; problem: TrainingProblem; hyperparameters: CraftHyperparameters }
  | { strategy: 'economy'; problem: EconomyProblem }
);

/**
 * Begins a training, or goes on with one.
 * @param state of {@link Trainer.serialise}
 * @throws InvalidProblemError; CheckpointError when the state is damaged or belongs to another training
 */
export function openTraining(spec: TrainingSpec, compute: Compute, state?: Uint8Array): Trainer {
  const { seed } = spec;
  if (spec.strategy === 'economy') return new EconomyTrainer(spec.problem, seed, arithmeticFor(compute));
  const { problem, hyperparameters } = spec;
  if (state) return CraftTrainer.restore(state, problem, hyperparameters, seed, compute);
  return CraftTrainer.create(problem, hyperparameters, seed, compute);
}
