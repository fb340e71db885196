import { type AdamOptions, initialAdamState } from './adam.js';
import { decodeCheckpoint, encodeCheckpoint, type TrainingIdentity, type TrainingState } from './checkpoint.js';
import type { Compute } from './compute.js';
import { CheckpointError, TrainerStateError, TrainingDivergedError } from './errors.js';
import { initialHead } from './head-weights.js';
import { type CraftHyperparameters, promptWeightOf } from './hyperparameters.js';
import { crossEntropy } from './losses.js';
import { accuracy } from './metrics.js';
import { checkProblem, type TrainingProblem } from './problem.js';
import { openSearch, type PromptSearch } from './prompt-search.js';
import type { Prompts } from './prompts.js';
import { Random } from './random.js';
import { RefinementHead } from './refinement-head.js';
import { type Score, type ScoringRequest, scorePrompts } from './scoring.js';
import type { GenerationReport, TrainedAdapter, Trainer } from './trainer-interface.js';

export type { TrainingProblem } from './problem.js';
export type { LearnedPrompt, PromptProblem, Prompts } from './prompts.js';
export type { ReceiveLogits, Score, ScoringRequest } from './scoring.js';

/**
 * Collaborative training (section 3.4 of the paper), one generation at a time. The trainer never sees an image and never
 * talks to anyone: it hands prompts to a `Score` function and learns from the logits it gets back. The same problem,
 * hyperparameters, seed and logits give bit for bit the same result on the same compute backend, also across a
 * checkpoint.
 */
export class CraftTrainer implements Trainer {
  private readonly problem: TrainingProblem;
  private readonly hyperparameters: CraftHyperparameters;
  private readonly seed: number;
  private readonly search: PromptSearch;
  private readonly head: RefinementHead;
  private state: 'ready' | 'running' | 'failed' = 'ready';

  private constructor({ problem, hyperparameters, seed }: TrainingIdentity, compute: Compute, state?: TrainingState) {
    checkProblem(problem);
    this.problem = problem;
    this.hyperparameters = hyperparameters;
    this.seed = seed;
    const { head_hidden_width: width } = hyperparameters;
    this.search = openSearch(problem, hyperparameters, seed, state?.search);
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

  /** The published algorithm spends its whole budget. */
  get isFinished(): boolean {
    return false;
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

  /** What a generation does cannot be had without doing it. */
  async replayGeneration(score: Score): Promise<void> {
    await this.runGeneration(score);
  }

  private async generationOf(score: Score): Promise<GenerationReport> {
    const { classCount, labels, validationLabels } = this.problem;
    const { consistency_weight: headWeight } = this.hyperparameters;
    const weight = promptWeightOf(this.hyperparameters);

    const candidates = this.search.ask();
    // Without the KL term losses do not change as the head does.
    const elites = weight === 0 ? null : this.search.elites();
    const lossOf = (logits: Float32Array) => this.head.promptLoss(logits, labels, weight);
    const fitness = await this.scoreSet(score, 'candidates', 'training', candidates, lossOf);
    const eliteFitness = elites && (await this.scoreSet(score, 'elites', 'training', elites, lossOf));
    this.search.tell(fitness, eliteFitness);

    const centre = this.search.centre();
    const { logits, validationLogits } = await this.scoreCentre(score, centre);
    const centreLoss = await lossOf(logits);
    const consistencyActive = this.isConsistencyActive();
    const headLoss = await this.trainHead(logits, consistencyActive ? headWeight : 0);
    const trained = await this.head.refine(logits);
    if (!trained.every(Number.isFinite)) {
      throw new TrainingDivergedError(
        'The refinement head diverged. Lower head_learning_rate, or scale down the logits.',
      );
    }

    const refined = validationLogits && (await this.head.refine(validationLogits));
    return {
      generation: this.generation,
      bestFitness: Math.min(...fitness),
      meanFitness: fitness.reduce((sum, value) => sum + value, 0) / fitness.length,
      stepSize: this.search.stepSize,
      template: centre.kind === 'template' ? centre.templates[0] : null,
      centreLoss,
      trainAccuracy: accuracy(trained, labels, classCount),
      blackBoxTrainAccuracy: accuracy(logits, labels, classCount),
      validationAccuracy: refined && accuracy(refined, validationLabels, classCount),
      validationLoss: refined && crossEntropy(refined, validationLabels, classCount),
      headLoss,
      heldOutAccuracy: null,
      consistencyActive,
      candidateEvaluations: this.generation * this.hyperparameters.population_size,
    };
  }

  /**
   * The centre on both image sets at once: the black box knows nothing of the head that is trained in between, and each
   * wait for it that nothing else fills is time lost.
   */
  private async scoreCentre(
    score: Score,
    centre: Prompts,
  ): Promise<{ logits: Float32Array; validationLogits: Float32Array | null }> {
    const asReceived = async (received: Float32Array) => received;
    const training = this.scoreSet(score, 'centre', 'training', centre, asReceived);
    const validation =
      this.problem.validationLabels.length > 0
        ? this.scoreSet(score, 'validation', 'validation', centre, asReceived)
        : Promise.resolve([null]);
    // One that fails does not leave the other behind.
    await Promise.allSettled([training, validation]);
    return { logits: (await training)[0], validationLogits: (await validation)[0] };
  }

  private scoreSet<T>(
    score: Score,
    purpose: ScoringRequest['purpose'],
    imageSet: ScoringRequest['imageSet'],
    prompts: Prompts,
    evaluate: (logits: Float32Array) => Promise<T>,
  ): Promise<T[]> {
    const { classCount, labels, validationLabels } = this.problem;
    const imageCount = imageSet === 'training' ? labels.length : validationLabels.length;
    return scorePrompts(score, { purpose, imageSet, prompts }, imageCount, classCount, evaluate);
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

  /** The adapter as of now: the prompt at the centre of the search, and the head. */
  async adapter(): Promise<TrainedAdapter> {
    this.requireReady();
    return { prompt: this.search.learned(), head: this.head.weights(), classCount: this.problem.classCount };
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
