import { InvalidProblemError, ScoringContractError, TrainerStateError } from '../errors.js';
import { crossEntropy } from '../losses.js';
import { accuracy } from '../metrics.js';
import type { LearnedPrompt, Prompts } from '../prompts.js';
import { Random } from '../random.js';
import { type Score, scorePrompts } from '../scoring.js';
import type { AdapterWeights, GenerationReport } from '../trainer.js';
import type { Trainer } from '../training.js';
import type { HeadArithmetic } from './arithmetic.js';
import { type EconomyHead, PreparedHead } from './economy-head.js';
import type { LabelledViews } from './fit-inputs.js';
import { type HeadInputs, sharedLogits } from './head-inputs.js';
import { chooseHead, fitHead, type HeadChoice } from './head-search.js';
import { noHead } from './linear-head.js';

/** What is trained with few queries: the prompt stays, the head is fitted to views of the images. */
export interface EconomyProblem {
  /** C, at least 2. */
  classCount: number;
  /** Class of each training image, [N]. */
  labels: Int32Array;
  /** Class of each validation image, [V]; may be empty. */
  validationLabels: Int32Array;
  prompt: LearnedPrompt;
  /** What the black box tells of an image beside its class logits; of embeddings, how long they are is seen then. */
  inputs: { kind: 'scores'; probes: number } | { kind: 'embedding' };
  /** T, transforms of an image that a prediction asks about. */
  transforms: number;
}

/** What a head is seen to do. */
type HeadFigures = Pick<
  GenerationReport,
  'trainAccuracy' | 'blackBoxTrainAccuracy' | 'validationAccuracy' | 'validationLoss' | 'headLoss'
>;

/** Views doubled without making the held-out loss better by at least this share: more of them no longer pay. */
const LEAST_GAIN = 0.005;
/** A plateau is not looked for among fewer views. */
const FIRST_PLATEAU = 8;

/**
 * Training at one image query per training image and generation. A generation has one transform of a further view of every
 * image scored under one prompt; the head is fitted to all that is complete. How strongly it is held back, and whether any
 * head is better than none, is chosen by cross-validation whenever the views have doubled. What was answered is the whole
 * state: the same answers give the same adapter, bit for bit, wherever training was broken off.
 */
export class EconomyTrainer implements Trainer {
  /** Of each generation, [N, answer width]. */
  private readonly answers: Float32Array[] = [];
  /** Of each transform of the validation images. */
  private readonly validation: Float32Array[] = [];
  private fitted: { shape: string; head: EconomyHead } | null = null;
  /** What cross-validation chose last, and the head that it made of what there was. */
  private found: { shape: string; choice: HeadChoice; head: EconomyHead; figures: HeadFigures } | null = null;
  private plateau = false;
  private state: 'ready' | 'running' | 'failed' = 'ready';

  /** @throws InvalidProblemError */
  constructor(
    private readonly problem: EconomyProblem,
    private readonly seed: number,
    private readonly arithmetic: HeadArithmetic,
  ) {
    const { classCount, labels, validationLabels } = problem;
    if (!Number.isSafeInteger(classCount) || classCount < 2) {
      throw new InvalidProblemError(`classCount must be an integer of at least 2, not ${classCount}.`);
    }
    if (labels.length === 0) throw new InvalidProblemError('There must be at least one training image.');
    const { inputs, transforms } = problem;
    if (!Number.isSafeInteger(transforms) || transforms < 1) {
      throw new InvalidProblemError(`transforms must be an integer of at least 1, not ${transforms}.`);
    }
    if (inputs.kind === 'scores' && !(Number.isSafeInteger(inputs.probes) && inputs.probes >= 0)) {
      throw new InvalidProblemError(`probes must be an integer of at least 0, not ${inputs.probes}.`);
    }
    for (const [what, values] of Object.entries({ labels, validationLabels })) {
      const wrong = values.findIndex((label) => label < 0 || label >= classCount);
      if (wrong >= 0) throw new InvalidProblemError(`${what}[${wrong}] is ${values[wrong]}, which is not a class.`);
    }
  }

  get generation(): number {
    return this.answers.length;
  }

  /** Whether further views no longer make the head better, by cross-validation. */
  get isFinished(): boolean {
    return this.plateau;
  }

  async runGeneration(score: Score): Promise<GenerationReport> {
    await this.replayGeneration(score);
    return this.report();
  }

  /** Takes the answers of a generation that is reported already. */
  async replayGeneration(score: Score): Promise<void> {
    if (this.state !== 'ready') throw new TrainerStateError('This training failed or is at work; begin it again.');
    this.state = 'running';
    try {
      await this.ask(score);
      if (isPowerOfTwo(this.views.length) && this.found?.shape !== this.shape) await this.choose();
      this.state = 'ready';
    } catch (error) {
      this.state = 'failed';
      throw error;
    }
  }

  private async ask(score: Score): Promise<void> {
    const { labels, validationLabels, transforms } = this.problem;
    const view = Math.floor(this.generation / transforms);
    const transform = this.generation % transforms;
    const training = this.answersTo(score, 'training', view, transform);
    const validates = view === 0 && validationLabels.length > 0;
    const validation = validates ? this.answersTo(score, 'validation', view, transform) : null;
    // One that fails does not leave the other behind.
    await Promise.allSettled([training, validation]);
    const [answers, validated] = [await training, await validation];
    if (validated && validated.length * labels.length !== answers.length * validationLabels.length) {
      throw new ScoringContractError('Training and validation images were answered with rows of different lengths.');
    }
    if (validated) this.validation.push(validated);
    this.answers.push(answers);
  }

  private async answersTo(
    score: Score,
    imageSet: 'training' | 'validation',
    view: number,
    transform: number,
  ): Promise<Float32Array> {
    const { classCount, inputs, labels, validationLabels, prompt } = this.problem;
    const purpose = imageSet === 'training' ? ('centre' as const) : ('validation' as const);
    const request = { purpose, imageSet, prompts: promptsOf(prompt), view, transform };
    const images = imageSet === 'training' ? labels.length : validationLabels.length;
    const first = this.answers[0]?.length;
    const unknown = inputs.kind === 'embedding' ? null : classCount + inputs.probes;
    const width = first === undefined ? unknown : first / labels.length;
    const [answers] = await scorePrompts(score, request, images, width, async (received) => received);
    if (answers.length < images * classCount) {
      throw new ScoringContractError(
        `${images} images were answered with ${answers.length} numbers for ${classCount} classes.`,
      );
    }
    return answers;
  }

  /** Views with all their transforms; of the first one, while it is under way, the images as they are. */
  private get views(): Float32Array[][] {
    const { transforms } = this.problem;
    if (this.generation < transforms) return [this.answers.slice(0, 1)];
    return Array.from({ length: Math.floor(this.generation / transforms) }, (_, view) => {
      return this.answers.slice(view * transforms, (view + 1) * transforms);
    });
  }

  private get inputs(): HeadInputs {
    const { inputs, labels, classCount } = this.problem;
    const transforms = this.generation < this.problem.transforms ? 1 : this.problem.transforms;
    if (inputs.kind === 'scores') return { ...inputs, transforms };
    const width = this.generation === 0 ? 0 : this.answers[0].length / labels.length - classCount;
    return { kind: 'embedding', width, transforms };
  }

  private get data(): LabelledViews {
    const { classCount, labels } = this.problem;
    return { inputs: this.inputs, classCount, labels, views: this.views };
  }

  /** The choice depends on the answers so far alone, not on the choices before it. */
  private async choose(): Promise<void> {
    const before = this.found?.choice;
    const choice = await chooseHead(this.data, Random.stream(this.seed, 'folds'), this.arithmetic);
    const head = await fitHead(this.data, choice, this.arithmetic);
    this.found = { shape: this.shape, choice, head, figures: this.figuresOf(head) };
    if (this.views.length < FIRST_PLATEAU || !before) return;
    this.plateau = choice.heldOut.loss > before.heldOut.loss * (1 - LEAST_GAIN);
  }

  /** What there is to fit a head to. */
  private get shape(): string {
    return `${this.views.length}/${this.inputs.transforms}`;
  }

  private async head(): Promise<EconomyHead> {
    const { found, shape } = this;
    if (!found) return noHead(this.inputs, this.problem.classCount);
    if (found.shape === shape) return found.head;
    if (this.fitted?.shape !== shape) {
      this.fitted = { shape, head: await fitHead(this.data, found.choice, this.arithmetic) };
    }
    return this.fitted.head;
  }

  private figuresOf(head: EconomyHead): HeadFigures {
    const { classCount, labels, validationLabels } = this.problem;
    const [first] = this.views;
    const prepared = new PreparedHead(head);
    const refined = prepared.refine(first);
    const blackBox = sharedLogits(this.inputs, first.slice(0, 1), [1], classCount);
    const seen = this.validation.slice(0, head.inputs.transforms);
    const validated = seen.length > 0 ? prepared.refine(seen) : null;
    return {
      trainAccuracy: accuracy(refined, labels, classCount),
      blackBoxTrainAccuracy: accuracy(blackBox, labels, classCount),
      validationAccuracy: validated && accuracy(validated, validationLabels, classCount),
      validationLoss: validated && crossEntropy(validated, validationLabels, classCount),
      headLoss: crossEntropy(refined, labels, classCount),
    };
  }

  /** Between two choices the figures are those of the last one: a fit for each view would cost more than it tells. */
  private report(): GenerationReport {
    const { prompt } = this.problem;
    const { choice, figures } = this.found as { choice: HeadChoice; figures: HeadFigures };
    return {
      generation: this.generation,
      bestFitness: null,
      meanFitness: null,
      stepSize: null,
      template: prompt.space === 'text' ? prompt.template : null,
      centreLoss: choice.heldOut.loss,
      ...figures,
      heldOutAccuracy: choice.heldOut.accuracy,
      consistencyActive: false,
      candidateEvaluations: this.generation,
    };
  }

  /** What was answered is kept by whoever answers: nothing else is needed to go on. */
  serialise(): Promise<null> {
    return Promise.resolve(null);
  }

  async adapter(): Promise<AdapterWeights> {
    const { prompt, classCount } = this.problem;
    return { prompt, head: await this.head(), classCount };
  }

  dispose(): void {}
}

function isPowerOfTwo(count: number): boolean {
  return (count & (count - 1)) === 0;
}

function promptsOf(prompt: LearnedPrompt): Prompts {
  if (prompt.space === 'text') return { kind: 'template', count: 1, templates: [prompt.template] };
  return { kind: 'context', count: 1, values: prompt.context };
}
