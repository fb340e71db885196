import { InvalidRequestError } from '../errors.js';
import { BUDGET_PARAMETERS, type QueryLimits, UNITS } from '../ledger/accounts.js';
import {
  addAmounts,
  amountsOfCall,
  amountsOfImages,
  type CallTexts,
  NOTHING,
  type Pricing,
} from '../providers/amounts.js';
import { type CallLimits, type CallRange, countCalls, cutIntoCalls } from '../providers/calls.js';
import type { PromptSpace, QueryAmounts } from '../providers/provider.js';
import type { Transform } from '../views/transforms.js';
import type { Strategy } from './job-request.js';

/**
 * What a job will do and spend, known before its first query. It keeps how calls are cut, so that a job asks the same
 * after a restart even if the provider's record changed.
 */
export interface TrainingPlan extends CallLimits {
  /** Absent in the plans of old jobs, which all follow the paper. */
  strategy?: Strategy;
  /** Why it was picked. */
  strategyReason?: string;
  /**
   * What the budget may have taken something from, as it was asked for: shots of each class (null: all), and why the
   * strategy was picked. Absent in the plans of old jobs, which are never planned anew.
   */
  asked?: { shots: number | null; reason: string };
  generations: number;
  /** However large the budget becomes; absent where there is no such end. */
  mostGenerations?: number;
  /** Labels that each query names after the classes. */
  probes?: string[];
  /** Transforms of an image that a prediction, and so the training, asks about. */
  transforms?: Transform[];
  /**
   * Copies of an image, and views that a transform shows already, are left out, so that nothing is paid for twice. Absent in
   * the plans of older jobs, which go on as they began.
   */
  asksOnce?: boolean;
  /** No two views of an image show the same part of it. Absent in the plans of jobs of versions up to 0.5.1. */
  distinctWindows?: boolean;
  /** Of one image, by the adapter that the job makes. */
  perPrediction?: QueryAmounts;
  /** Before the first generation: the embeddings of images that are not there yet. Absent in the plans of old jobs. */
  setup?: QueryAmounts;
  /** At most: a text prompt that was scored before costs nothing. */
  perGeneration: QueryAmounts;
  /** Sum over all generations, if no call has to be repeated. */
  total: QueryAmounts;
  /** Texts that are embedded in a generation, of providers that embed. */
  textEmbeddingsPerGeneration?: number;
  /** Before the first generation. */
  textEmbeddings?: number;
  /** How calls that embed images are cut. */
  imageCalls?: CallLimits;
  /** The limit that decides the number of generations; views: more are not asked for. */
  decidedBy: keyof QueryAmounts | 'views';
  trainingImages: number;
  validationImages: number;
  classes: number;
  /** Rounds in which the classes are asked about, each with a request of its own. */
  rounds?: number;
  /** Wall time if the provider's requests per second are the bottleneck; null where it states no rate. */
  secondsAtProviderLimits: number | null;
}

export interface PlanInput extends Omit<GenerationInput, 'classCount'> {
  texts: CallTexts;
  limits: QueryLimits;
  provider: Pricing & { requestsPerSecond: number | null };
  /** Of providers that embed: the calls that bring the embeddings that are missing, by their images. */
  imageCalls?: { limits: CallLimits; counts: number[] };
}

const MAX_GENERATIONS = 1_000_000;
/** Of one generation: they are all held in memory, when it is planned and when it runs. */
const MOST_CALLS = 1_000_000;

/**
 * Plans as many whole generations as the tightest limit pays for.
 * @throws InvalidRequestError when the budget does not pay for one generation, or does not bound the job at all; and as
 * {@link requireFewCalls}
 */
export function planTraining(input: PlanInput): TrainingPlan {
  const { texts, provider, imageCalls } = input;
  const classCount = texts.classes.names.length;
  requireFewCalls(input.populationSize, input.trainingImages, classCount, input.calls);
  requireFewCalls(1, input.validationImages, classCount, input.calls);
  const calls = generationCalls({ ...input, classCount });
  const perGeneration = amountsOf(calls, provider, texts);
  const setup = (imageCalls?.counts ?? []).map((count) => amountsOfImages(provider, count)).reduce(addAmounts, NOTHING);
  const { generations, decidedBy } = affordableGenerations({ perGeneration, setup }, input.limits);
  requireBounded(generations, 'method.craft.budget');
  if (generations < 1) {
    throw new InvalidRequestError({
      code: 'budget_too_small',
      param: `method.craft.budget.${BUDGET_PARAMETERS[decidedBy]}`,
      message: tooSmallMessage(input, addAmounts(setup, perGeneration), decidedBy),
    });
  }
  const total = Object.fromEntries(
    UNITS.map((unit) => [unit, setup[unit] + perGeneration[unit] * generations]),
  ) as unknown as QueryAmounts;
  const rate = provider.requestsPerSecond;
  const embedded = calls.reduce((sum, call) => sum + call.promptCount * call.classCount, 0);
  return {
    strategy: 'paper',
    generations,
    setup,
    perGeneration,
    total,
    decidedBy,
    trainingImages: input.trainingImages.length,
    validationImages: input.validationImages.length,
    classes: classCount,
    rounds: new Set(calls.map(({ firstClass }) => firstClass)).size,
    ...(imageCalls ? { imageCalls: imageCalls.limits, textEmbeddingsPerGeneration: embedded } : {}),
    ...input.calls,
    secondsAtProviderLimits: rate === null ? null : total.requests / rate,
  };
}

/** @throws InvalidRequestError before so many calls are listed that there is no room for them */
export function requireFewCalls(prompts: number, images: number[], classCount: number, limits: CallLimits): void {
  const calls = countCalls(prompts, images, classCount, limits);
  if (calls <= MOST_CALLS) return;
  throw new InvalidRequestError({
    code: 'job_too_large',
    param: 'training_file',
    message: `One generation would be ${calls} requests to the provider; ${MOST_CALLS} are possible. Train on fewer images (shots), lower population_size, or raise images_per_request in the provider's record.`,
  });
}

/** @throws InvalidRequestError when there is no end of generations */
export function requireBounded(generations: number, param: string | null): void {
  if (generations <= MAX_GENERATIONS) return;
  throw new InvalidRequestError({
    code: 'budget_unbounded',
    param,
    message:
      generations === Number.POSITIVE_INFINITY
        ? 'At this provider a generation costs nothing of what this budget limits, so that it does not bound the job. Add max_prompt_evaluations.'
        : `This budget pays for more than ${MAX_GENERATIONS} generations. Lower it; 8,000 prompt evaluations are what the method was published with.`,
  });
}

/** What decides the calls of one generation. */
export interface GenerationInput {
  space: PromptSpace;
  /** λ; of text prompts, those that have to be asked about. */
  populationSize: number;
  /** Bytes of each image as it is sent, in the job's order. */
  trainingImages: number[];
  validationImages: number[];
  classCount: number;
  calls: CallLimits;
}

/**
 * λ candidates and the centre on the training images, and the centre on the validation images, numbered through. The
 * centre of a search over words is a prompt that was scored, and texts that are embedded serve all images.
 */
export function generationCalls(input: GenerationInput): CallRange[] {
  const { space, populationSize, trainingImages, validationImages, classCount, calls } = input;
  const sets: [prompts: number, images: number[]][] = [[populationSize, trainingImages]];
  if (space === 'soft') sets.push([1, trainingImages]);
  if (!calls.embedsTexts) sets.push([1, validationImages]);
  const cut: CallRange[] = [];
  for (const [prompts, images] of sets) {
    if (prompts === 0) continue;
    // One by one: there may be more of them than a function takes arguments.
    for (const call of cutIntoCalls(prompts, images, classCount, calls, cut.length)) cut.push(call);
  }
  return cut;
}

/** What calls draw on the ledger together. */
export function amountsOf(calls: CallRange[], pricing: Pricing, texts: CallTexts): QueryAmounts {
  return calls.map((call) => amountsOfCall(pricing, call, texts)).reduce(addAmounts, NOTHING);
}

/** Whole generations that the limits pay for, and the unit that decides; infinite where none limits. */
export function affordableGenerations(
  { perGeneration, setup = NOTHING }: Pick<TrainingPlan, 'perGeneration' | 'setup'>,
  limits: QueryLimits,
): { generations: number; decidedBy: keyof QueryAmounts } {
  let generations = Number.POSITIVE_INFINITY;
  let decidedBy: keyof QueryAmounts = 'promptEvaluations';
  for (const unit of UNITS) {
    const limit = limits[unit];
    const left = limit === null ? Number.POSITIVE_INFINITY : limit - setup[unit];
    if (left === Number.POSITIVE_INFINITY || (perGeneration[unit] === 0 && left >= 0)) continue;
    const affordable = left < 0 ? 0 : Math.floor(left / perGeneration[unit]);
    if (affordable < generations) {
      generations = affordable;
      decidedBy = unit;
    }
  }
  return { generations, decidedBy };
}

/** Whether a generation leaves the first view asked about in several transforms, but not in all of them. */
export function isWithinFirstView({ transforms }: Pick<TrainingPlan, 'transforms'>, generation: number): boolean {
  return generation > 1 && generation < (transforms?.length ?? 1);
}

/** So many generations less those of a view that is not asked about in all transforms: nothing is planned that only part of one is for. */
export function wholeViews({ transforms }: Pick<TrainingPlan, 'transforms'>, generations: number): number {
  return generations - (generations % (transforms?.length ?? 1));
}

function tooSmallMessage(input: PlanInput, amounts: QueryAmounts, unit: keyof QueryAmounts): string {
  const name = BUDGET_PARAMETERS[unit];
  const show = (value: number) => (unit === 'costMicroUsd' ? `${value / 1e6}` : `${value}`);
  const setup = input.imageCalls?.counts.length ? ', with the embeddings of the images before it,' : '';
  const validationImages = input.validationImages.length;
  const validation = validationImages > 0 ? ` and 1 on ${validationImages} validation images` : '';
  return (
    `One generation${setup} needs ${show(amounts[unit])} of ${name} (${input.populationSize} candidates${input.space === 'soft' ? ' and the centre' : ''} on ` +
    `${input.trainingImages.length} training images${validation}), but the budget is ${show(input.limits[unit] ?? 0)}. ` +
    `Raise ${name}, lower population_size, or train on fewer images.`
  );
}
