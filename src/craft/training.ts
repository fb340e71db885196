import type { Compute } from './compute.js';
import { arithmeticFor } from './economy/arithmetic-choice.js';
import { type EconomyProblem, EconomyTrainer } from './economy/economy-trainer.js';
import type { CraftHyperparameters } from './hyperparameters.js';
import type { TrainingProblem } from './problem.js';
import type { Score } from './scoring.js';
import { CraftTrainer, type GenerationReport, type TrainedAdapter } from './trainer.js';

/** All that decides a training beside the answers of the black box. Plain data: it can be sent to another thread. */
export type TrainingSpec = {
  /** A safe integer. */
  seed: number;
} & (
  | { strategy: 'paper'; problem: TrainingProblem; hyperparameters: CraftHyperparameters }
  | { strategy: 'economy'; problem: EconomyProblem }
);

/** A training under way, whatever its strategy: one generation at a time, at the prices of the `Score` it is given. */
export interface Trainer {
  /** Generations completed. */
  readonly generation: number;
  /** Whether further generations no longer pay. */
  readonly isFinished: boolean;
  /** @throws as the strategy's trainer does, and whatever `score` throws; of no further use then */
  runGeneration(score: Score): Promise<GenerationReport>;
  /** The same of a generation that is reported already: nobody is interested in its figures. */
  replayGeneration(score: Score): Promise<void>;
  /** The whole state between two generations, for {@link openTraining}; null: the answers so far are all of it. */
  serialise(): Promise<Uint8Array | null>;
  /** The adapter as of now. */
  adapter(): Promise<TrainedAdapter>;
  /** Frees what is held on the compute device. */
  dispose(): void;
}

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
