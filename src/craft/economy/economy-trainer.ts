import { EmbeddingsChangedError, InvalidProblemError, ScoringContractError, TrainerStateError } from '../errors.js';
import { crossEntropy } from '../losses.js';
import { accuracy } from '../metrics.js';
import type { LearnedPrompt, Prompts } from '../prompts.js';
import { Random } from '../random.js';
import { type Score, scorePrompts } from '../scoring.js';
import type { GenerationReport, HeadFigures, TrainedAdapter, Trainer } from '../trainer-interface.js';
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

/** What a head is fitted to: the first views, each in the first transforms. */
interface Extent {
  views: number;
  transforms: number;
}

/** A head with all that it was fitted to. */
interface Fit {
  extent: Extent;
  head: EconomyHead;
  figures: HeadFigures;
}

/** Views doubled without making the held-out loss better by at least this share: more of them no longer pay. */
const LEAST_GAIN = 0.005;
/** A plateau is not looked for among fewer views. */
const FIRST_PLATEAU = 8;

/**
 * Training at one image query per training image and generation. A generation has one transform of a further view of every
 * image scored under one prompt; the head is fitted to all whole views, and until there is one to the transforms of it that
 * there are. How strongly it is held back, and whether any head is better than none, is chosen by cross-validation whenever
 * the views, or before there is a whole one its transforms, have doubled. What was answered is the whole state: the same
 * answers give the same adapter, bit for bit, wherever training was broken off.
 */
export class EconomyTrainer implements Trainer {
  /** Of each generation, [N, answer width]. */
  private readonly answers: Float32Array[] = [];
  /** Of each transform of the validation images. */
  private readonly validation: Float32Array[] = [];
  /** What cross-validation chose last, and the head that it made of what there was. */
  private chosen: (Fit & { choice: HeadChoice }) | null = null;
  /** The last head that was fitted to more than it was chosen on. */
  private refitted: Fit | null = null;
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

  runGeneration(score: Score): Promise<GenerationReport> {
    return this.atWork(async () => {
      await this.ask(score);
      return this.report();
    });
  }

  /** Takes the answers of a generation that is reported already. */
  replayGeneration(score: Score): Promise<void> {
    return this.atWork(async () => {
      await this.ask(score);
      // Whether views still pay is seen by one choice after the other, once there is a whole one.
      if (this.generation >= this.problem.transforms) await this.choose(this.choiceExtent);
    });
  }

  private async atWork<Result>(work: () => Promise<Result>): Promise<Result> {
    if (this.state !== 'ready') throw new TrainerStateError('This training failed or is at work; begin it again.');
    this.state = 'running';
    try {
      const result = await work();
      this.state = 'ready';
      return result;
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
    this.requireSameWidth(this.answers[0] ?? answers, answers, labels.length);
    if (validated) {
      this.requireSameWidth(answers, validated, validationLabels.length);
      this.validation.push(validated);
    }
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
    const width = inputs.kind === 'embedding' ? null : classCount + inputs.probes;
    const [answers] = await scorePrompts(score, request, images, width, async (received) => received);
    if (answers.length < images * classCount) {
      throw new ScoringContractError(
        `${images} images were answered with ${answers.length} numbers for ${classCount} classes.`,
      );
    }
    return answers;
  }

  /** @param training of the training images */
  private requireSameWidth(training: Float32Array, answers: Float32Array, images: number): void {
    const { classCount, labels } = this.problem;
    const [before, now] = [training.length / labels.length, answers.length / images];
    if (before === now) return;
    throw new EmbeddingsChangedError(
      `The black box answered embeddings of ${now - classCount} numbers, after some of ${before - classCount}.`,
    );
  }

  /** All that is complete. */
  private get extent(): Extent {
    const { transforms } = this.problem;
    const views = Math.floor(this.generation / transforms);
    return views === 0 ? { views: 1, transforms: Math.max(1, this.generation) } : { views, transforms };
  }

  /** What the head is chosen on: what was complete when it last had doubled. */
  private get choiceExtent(): Extent {
    const { views, transforms } = this.extent;
    if (this.generation < this.problem.transforms) return { views, transforms: powerOfTwoWithin(transforms) };
    return { views: powerOfTwoWithin(views), transforms };
  }

  private inputsOf({ transforms }: Extent): HeadInputs {
    const { inputs, labels, classCount } = this.problem;
    if (inputs.kind === 'scores') return { ...inputs, transforms };
    const width = this.generation === 0 ? 0 : this.answers[0].length / labels.length - classCount;
    return { kind: 'embedding', width, transforms };
  }

  private dataOf(extent: Extent): LabelledViews {
    const { classCount, labels, transforms } = this.problem;
    const views = Array.from({ length: extent.views }, (_, view) => {
      return this.answers.slice(view * transforms, view * transforms + extent.transforms);
    });
    return { inputs: this.inputsOf(extent), classCount, labels, views };
  }

  /** The choice depends on the answers so far alone, not on the choices before it. */
  private async choose(extent: Extent): Promise<Fit & { choice: HeadChoice }> {
    if (this.chosen && isSameExtent(this.chosen.extent, extent)) return this.chosen;
    const before = this.chosen?.choice;
    const choice = await chooseHead(this.dataOf(extent), Random.stream(this.seed, 'folds'), this.arithmetic);
    this.chosen = { ...(await this.fit(extent, choice)), choice };
    if (extent.views >= FIRST_PLATEAU && before) {
      this.plateau = choice.heldOut.loss > before.heldOut.loss * (1 - LEAST_GAIN);
    }
    return this.chosen;
  }

  /** The head as of now, which between two choices is one of its own. */
  private async current(): Promise<Fit> {
    const { extent } = this;
    const chosen = await this.choose(this.choiceExtent);
    if (isSameExtent(chosen.extent, extent)) return chosen;
    if (!this.refitted || !isSameExtent(this.refitted.extent, extent)) {
      this.refitted = await this.fit(extent, chosen.choice);
    }
    return this.refitted;
  }

  private async fit(extent: Extent, choice: HeadChoice): Promise<Fit> {
    const head = await fitHead(this.dataOf(extent), choice, this.arithmetic);
    return { extent, head, figures: this.figuresOf(head, choice) };
  }

  private figuresOf(head: EconomyHead, { heldOut }: HeadChoice): HeadFigures {
    const { classCount, labels, validationLabels } = this.problem;
    const { inputs } = head;
    const prepared = new PreparedHead(head);
    const refined = prepared.refine(this.answers.slice(0, inputs.transforms));
    const blackBox = sharedLogits(inputs, this.answers.slice(0, 1), [1], classCount);
    const seen = this.validation.slice(0, inputs.transforms);
    const validated = seen.length > 0 ? prepared.refine(seen) : null;
    return {
      centreLoss: heldOut.loss,
      heldOutAccuracy: heldOut.accuracy,
      trainAccuracy: accuracy(refined, labels, classCount),
      blackBoxTrainAccuracy: accuracy(blackBox, labels, classCount),
      validationAccuracy: validated && accuracy(validated, validationLabels, classCount),
      validationLoss: validated && crossEntropy(validated, validationLabels, classCount),
      headLoss: crossEntropy(refined, labels, classCount),
    };
  }

  /**
   * With validation images, which tell one generation from another, figures are those of the head as of now. Without them a
   * fit for each view would cost more than it tells: they are those of the last choice on whole views, and until there is one
   * of the choice on the images as they are.
   */
  private async report(): Promise<GenerationReport> {
    const { prompt, validationLabels, transforms } = this.problem;
    const whole = this.generation < transforms ? { views: 1, transforms: 1 } : this.choiceExtent;
    const { figures } = await (validationLabels.length > 0 ? this.current() : this.choose(whole));
    return {
      generation: this.generation,
      bestFitness: null,
      meanFitness: null,
      stepSize: null,
      template: prompt.space === 'text' ? prompt.template : null,
      ...figures,
      consistencyActive: false,
      candidateEvaluations: this.generation,
    };
  }

  /** What was answered is kept by whoever answers: nothing else is needed to go on. */
  serialise(): Promise<null> {
    return Promise.resolve(null);
  }

  async adapter(): Promise<TrainedAdapter> {
    const { prompt, classCount } = this.problem;
    if (this.generation === 0) return { prompt, head: noHead(this.inputsOf(this.extent), classCount), classCount };
    const { head, figures } = await this.current();
    return { prompt, head, classCount, figures };
  }

  dispose(): void {}
}

function isSameExtent(one: Extent, other: Extent): boolean {
  return one.views === other.views && one.transforms === other.transforms;
}

/** @returns the largest power of two that is not more than a count of at least 1 */
function powerOfTwoWithin(count: number): number {
  return 2 ** (31 - Math.clz32(count));
}

function promptsOf(prompt: LearnedPrompt): Prompts {
  if (prompt.space === 'text') return { kind: 'template', count: 1, templates: [prompt.template] };
  return { kind: 'context', count: 1, values: prompt.context };
}
