import type { EconomyHead } from './economy/economy-head.js';
import type { HeadWeights } from './head-weights.js';
import type { LearnedPrompt } from './prompts.js';
import type { Score } from './scoring.js';

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
  /** The whole state between two generations, for `openTraining`; null: the answers so far are all of it. */
  serialise(): Promise<Uint8Array | null>;
  /** The adapter as of now. */
  adapter(): Promise<TrainedAdapter>;
  /** Frees what is held on the compute device. */
  dispose(): void;
}

/** What one generation achieved. Accuracies run from 0 to 1, losses are in nats. */
export interface GenerationReport {
  /** 1 for the first generation. */
  generation: number;
  /** Smallest loss among the candidates; null where there are none. */
  bestFitness: number | null;
  /** Mean loss of the candidates; null where there are none. */
  meanFitness: number | null;
  /**
   * How far the search still reaches after the generation: σ of CMA-ES, or the spread over words from 1 to 0; null where
   * nothing is searched.
   */
  stepSize: number | null;
  /** The current prompt, where it is a text. */
  template: string | null;
  /**
   * Loss of the centre on the training images, comparable with the candidates' (the head before its epoch); of a head that
   * is cross-validated, its loss on images that were held out.
   */
  centreLoss: number;
  /** On the training images at the centre, refined by the head after its epoch. */
  trainAccuracy: number;
  /** On the training images at the centre, by the black box alone. */
  blackBoxTrainAccuracy: number;
  /** On the validation images at the centre, refined; null without validation images. */
  validationAccuracy: number | null;
  /** Cross-entropy on the validation images at the centre, refined; null without validation images. */
  validationLoss: number | null;
  /** Mean loss of the head over its last epoch. */
  headLoss: number;
  /** By cross-validation on the training images, refined; null of a head that is not cross-validated. */
  heldOutAccuracy: number | null;
  /** Whether the KL term of the head loss was on. */
  consistencyActive: boolean;
  /** Candidates scored since the start of training. */
  candidateEvaluations: number;
}

/** What a head is seen to do; of images held out, those of its kind by the last choice. */
export type HeadFigures = Pick<
  GenerationReport,
  | 'centreLoss'
  | 'headLoss'
  | 'heldOutAccuracy'
  | 'trainAccuracy'
  | 'blackBoxTrainAccuracy'
  | 'validationAccuracy'
  | 'validationLoss'
>;

/** What is kept after training. */
export interface AdapterWeights {
  prompt: LearnedPrompt;
  head: HeadWeights | EconomyHead;
  classCount: number;
}

/** The adapter that a training has at some time. */
export interface TrainedAdapter extends AdapterWeights {
  /** Of its own head, where the report of its generation may have been of another one. */
  figures?: HeadFigures;
}
