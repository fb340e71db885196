import { type AdamOptions, initialAdamState } from './adam.js';
import { decodeCheckpoint, encodeCheckpoint, type TrainingIdentity, type TrainingState } from './checkpoint.js';
import { CmaEs } from './cma-es.js';
import type { Compute } from './compute.js';
import { CheckpointError, TrainerStateError, TrainingDivergedError } from './errors.js';
import { type HeadWeights, initialHead } from './head-weights.js';
import { boundOf, type CraftHyperparameters } from './hyperparameters.js';
import { crossEntropy, promptLoss } from './losses.js';
import { accuracy } from './metrics.js';
import { checkProblem, type TrainingProblem } from './problem.js';
import { PromptGenerator } from './prompt-generator.js';
import { Random } from './random.js';
import { RefinementHead } from './refinement-head.js';
import { type Score, type ScoringRequest, scorePrompts } from './scoring.js';

export type { TrainingProblem } from './problem.js';
export type { ReceiveLogits, Score, ScoringRequest } from './scoring.js';

/** What one generation achieved. Accuracies run from 0 to 1, losses are in nats. */
export interface GenerationReport {
  /** 1 for the first generation. */
  generation: number;
  /** Smallest loss among the candidates. */
  bestFitness: number;
  /** Mean loss of the candidates. */
  meanFitness: number;
  /** σ of CMA-ES after the generation. */
  stepSize: number;
  /** Loss of the centre on the training images, comparable with the candidates' (the head before its epoch). */
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
  /** Whether the KL term of the head loss was on. */
  consistencyActive: boolean;
  /** Candidates scored since the start of training. */
  candidateEvaluations: number;
}

/** What is kept after training. */
export interface AdapterWeights {
  /** [m·d] */
  context: Float32Array;
  contextTokens: number;
  contextWidth: number;
  head: HeadWeights;
  classCount: number;
}

/**
 * Collaborative training (section 3.4 of the paper), one generation at a time. The trainer never sees an image and never
 * talks to anyone: it hands prompts to a `Score` function and learns from the logits it gets back. The same problem,
 * hyperparameters, seed and logits give bit for bit the same result on the same compute backend, also across a
 * checkpoint.
 */
export class CraftTrainer {
  private readonly problem: TrainingProblem;
  private readonly hyperparameters: CraftHyperparameters;
  private readonly seed: number;
  private readonly generator: PromptGenerator;
  private readonly search: CmaEs;
  private readonly head: RefinementHead;
  private state: 'ready' | 'running' | 'failed' = 'ready';

  private constructor({ problem, hyperparameters, seed }: TrainingIdentity, compute: Compute, state?: TrainingState) {
    checkProblem(problem);
    this.problem = problem;
    this.hyperparameters = hyperparameters;
    this.seed = seed;
    const { intrinsic_dimension: n, head_hidden_width: width, projection_std: std } = hyperparameters;
    this.generator = new PromptGenerator(problem.initialContext, n, std, seed);
    const searchOptions = {
      dimension: n,
      populationSize: hyperparameters.population_size,
      initialStepSize: hyperparameters.initial_step_size,
      bound: boundOf(hyperparameters),
      seed,
    };
    this.search = new CmaEs(searchOptions, state?.search);
    this.head = new RefinementHead(
      compute,
      state?.head ?? initialHead(problem.classCount, width, Random.stream(seed, 'head')),
      state?.adam ?? initialAdamState(problem.classCount, width),
    );
  }

  /**
   * @param seed a safe integer
   * @throws InvalidProblemError
   */
  static create(
    problem: TrainingProblem,
    hyperparameters: CraftHyperparameters,
    seed: number,
    compute: Compute,
  ): CraftTrainer {
    return new CraftTrainer({ problem, hyperparameters, seed }, compute);
  }

  /**
   * Goes on from bytes of {@link serialise}, with everything else as it was at the start.
   * @throws CheckpointError, InvalidProblemError
   */
  static restore(
    bytes: Uint8Array,
    problem: TrainingProblem,
    hyperparameters: CraftHyperparameters,
    seed: number,
    compute: Compute,
  ): CraftTrainer {
    checkProblem(problem);
    const identity = { problem, hyperparameters, seed };
    const state = decodeCheckpoint(bytes, identity);
    try {
      return new CraftTrainer(identity, compute, state);
    } catch (cause) {
      throw new CheckpointError('The checkpoint holds an impossible state.', { cause });
    }
  }

  /** Generations completed. */
  get generation(): number {
    return this.search.generation;
  }

  /**
   * One generation. Should it fail, because `score` did or broke its contract, then this trainer is of no further use:
   * restore one from the last checkpoint, which will ask for exactly the same prompts again.
   * @throws TrainerStateError, ScoringContractError, NonFiniteLogitsError, TrainingDivergedError, and whatever
   *   `score` throws
   */
  async runGeneration(score: Score): Promise<GenerationReport> {
    this.requireReady();
    this.state = 'running';
    try {
      const report = await this.generationOf(score);
      this.state = 'ready';
      return report;
    } catch (error) {
      this.state = 'failed';
      throw error;
    } finally {
      // A trainer that is dropped between generations must leave nothing behind; uploading again costs next to nothing.
      this.head.dispose();
    }
  }

  private async generationOf(score: Score): Promise<GenerationReport> {
    const { classCount, labels, validationLabels } = this.problem;
    const { population_size: populationSize, consistency_weight: weight } = this.hyperparameters;

    const candidates = this.generator.generate(this.search.ask());
    const fitness = await this.scoreSet(score, 'candidates', 'training', candidates, async (logits) => {
      return promptLoss(logits, await this.head.refine(logits), labels, classCount, weight);
    });
    this.search.tell(fitness);

    const context = this.generator.generate(this.search.centre);
    const [logits] = await this.scoreSet(score, 'centre', 'training', context, async (received) => received);
    const centreLoss = promptLoss(logits, await this.head.refine(logits), labels, classCount, weight);
    const consistencyActive = this.isConsistencyActive();
    const headLoss = await this.trainHead(logits, consistencyActive ? weight : 0);
    const trained = await this.head.refine(logits);
    if (!trained.every(Number.isFinite)) {
      throw new TrainingDivergedError(
        'The refinement head diverged. Lower head_learning_rate, or scale down the logits.',
      );
    }

    let refined: Float32Array | null = null;
    if (validationLabels.length > 0) {
      [refined] = await this.scoreSet(score, 'validation', 'validation', context, (received) => {
        return this.head.refine(received);
      });
    }
    return {
      generation: this.generation,
      bestFitness: Math.min(...fitness),
      meanFitness: fitness.reduce((sum, value) => sum + value, 0) / fitness.length,
      stepSize: this.search.stepSize,
      centreLoss,
      trainAccuracy: accuracy(trained, labels, classCount),
      blackBoxTrainAccuracy: accuracy(logits, labels, classCount),
      validationAccuracy: refined && accuracy(refined, validationLabels, classCount),
      validationLoss: refined && crossEntropy(refined, validationLabels, classCount),
      headLoss,
      consistencyActive,
      candidateEvaluations: this.generation * populationSize,
    };
  }

  private scoreSet<T>(
    score: Score,
    purpose: ScoringRequest['purpose'],
    imageSet: ScoringRequest['imageSet'],
    prompts: Float32Array,
    evaluate: (logits: Float32Array) => Promise<T>,
  ): Promise<T[]> {
    const { classCount, labels, validationLabels, initialContext } = this.problem;
    const promptCount = prompts.length / initialContext.length;
    const imageCount = imageSet === 'training' ? labels.length : validationLabels.length;
    return scorePrompts(score, { purpose, imageSet, prompts, promptCount }, imageCount, classCount, evaluate);
  }

  /** The KL term of the head loss is off once more than 1/n_switch of the planned candidates are spent. */
  private isConsistencyActive(): boolean {
    return this.generation * this.hyperparameters.consistency_switch <= this.problem.plannedGenerations;
  }

  /** @returns the mean loss of the last epoch */
  private async trainHead(logits: Float32Array, consistencyWeight: number): Promise<number> {
    const { labels } = this.problem;
    const { batch_size: batchSize, head_epochs_per_generation: epochs } = this.hyperparameters;
    let loss = Number.NaN;
    for (let epoch = 0; epoch < epochs; epoch++) {
      // A stream of its own for each epoch: nothing to store, nothing to get out of step.
      const random = Random.stream(this.seed, `batches/${this.generation}/${epoch}`);
      const options = { batchSize, consistencyWeight, adam: this.adamOptions() };
      loss = await this.head.trainEpoch(logits, labels, random.permutation(labels.length), options);
    }
    return loss;
  }

  private adamOptions(): AdamOptions {
    const { head_learning_rate, adam_beta1, adam_beta2, adam_epsilon } = this.hyperparameters;
    return { learningRate: head_learning_rate, beta1: adam_beta1, beta2: adam_beta2, epsilon: adam_epsilon };
  }

  /** The whole state of training between two generations. */
  async serialise(): Promise<Uint8Array> {
    this.requireReady();
    const { problem, hyperparameters, seed } = this;
    const state = {
      generation: this.generation,
      search: this.search.state(),
      head: this.head.weights(),
      adam: this.head.adamState(),
    };
    return encodeCheckpoint(state, { problem, hyperparameters, seed });
  }

  /** The adapter as of now: the context at the centre of the search, and the head. */
  async adapter(): Promise<AdapterWeights> {
    this.requireReady();
    const { contextTokens, contextWidth, classCount } = this.problem;
    const context = this.generator.generate(this.search.centre);
    return { context, contextTokens, contextWidth, head: this.head.weights(), classCount };
  }

  private requireReady(): void {
    if (this.state === 'running') throw new TrainerStateError('A generation is running; wait for it first.');
    if (this.state === 'failed') {
      throw new TrainerStateError('The last generation failed; restore the trainer from its last checkpoint.');
    }
  }

  /** Frees what the head holds on the compute device. */
  dispose(): void {
    this.head.dispose();
  }
}
