import { usefulViews } from '../craft/economy/head-grid.js';
import { InvalidRequestError } from '../errors.js';
import { UNITS } from '../ledger/accounts.js';
import {
  addAmounts,
  amountsOfImages,
  type CallTexts,
  multiplyAmounts,
  NOTHING,
  type Pricing,
} from '../providers/amounts.js';
import { type CallLimits, type CallRange, cutIntoCalls } from '../providers/calls.js';
import type { QueryAmounts } from '../providers/provider.js';
import type { Transform } from '../views/transforms.js';
import {
  affordableGenerations,
  amountsOf,
  type PlanInput,
  requireFewCalls,
  type TrainingPlan,
  wholeViews,
} from './plan.js';

export interface EconomyPlanInput extends Omit<PlanInput, 'space' | 'populationSize'> {
  /** Views of each training image at most; more than help are not asked for. */
  mostViews: number;
  /** Labels of a query beside the classes. */
  probes: string[];
  /** Transforms of an image that a prediction asks about, if the budget pays for training on all of them. */
  transforms: Transform[];
  classCount: number;
}

/** Numbers of answers that a training holds at most, over all views. */
const MOST_NUMBERS = 48_000_000;
/** Of an embedding, for that; how wide they are is not known yet. */
const EMBEDDING_WIDTH = 1024;

/**
 * Plans as many views as the tightest limit pays for: a generation is one transform of one view of every training image.
 * Validation images are asked about once in each transform.
 * @param input its texts name the probe labels after the classes
 * @returns a plan of no generation where the budget does not pay for one
 * @throws InvalidRequestError as {@link requireFewCalls}
 */
export function planEconomy(input: EconomyPlanInput): TrainingPlan {
  const { texts, provider, imageCalls, trainingImages, validationImages, calls, probes } = input;
  for (const images of [trainingImages, validationImages]) {
    requireFewCalls(1, images, texts.classes.names.length, calls);
  }
  const views = economyCalls(input);
  const embeds = imageCalls !== undefined;
  const perGeneration = embeds
    ? imageAmounts(provider, cutIntoCalls(1, trainingImages, 1, imageCalls.limits))
    : amountsOf(views.training, provider, texts);
  const validation = embeds
    ? imageAmounts(provider, validationCallsOf(validationImages, imageCalls.limits))
    : amountsOf(views.validation, provider, texts);
  const texted = embeds ? amountsOf(views.training, provider, texts) : NOTHING;
  const row = texts.classes.names.length + (embeds ? EMBEDDING_WIDTH : 0);
  const room = Math.max(1, Math.floor(MOST_NUMBERS / Math.max(1, trainingImages.length * row)));
  const mostViews = Math.min(input.mostViews, usefulViews(trainingImages.length));
  let transforms = input.transforms;
  let setup = NOTHING;
  let mostGenerations = 1;
  let affordable = { generations: 0, decidedBy: 'imageQueries' as keyof QueryAmounts };
  // As many transforms as the budget pays for on one view, then as many views in all of them: part of a later one is of no use.
  for (let count = Math.min(input.transforms.length, room); count > 0; count--) {
    transforms = input.transforms.slice(0, count);
    setup = addAmounts(texted, multiplyAmounts(validation, count));
    mostGenerations = count * Math.max(1, Math.min(mostViews, Math.floor(room / count)));
    affordable = affordableGenerations({ perGeneration, setup }, input.limits);
    if (affordable.generations >= count) break;
  }
  const whole = Math.min(mostGenerations, affordable.generations);
  const generations = wholeViews({ transforms }, whole);
  const total = Object.fromEntries(
    UNITS.map((unit) => [unit, generations === 0 ? 0 : setup[unit] + perGeneration[unit] * generations]),
  ) as unknown as QueryAmounts;
  const rate = provider.requestsPerSecond;
  const embedded = views.training.reduce((sum, call) => sum + call.promptCount * call.classCount, 0);
  return {
    strategy: 'economy',
    generations,
    mostGenerations,
    probes,
    transforms,
    asksOnce: true,
    distinctWindows: true,
    perPrediction: predictionAmounts({ ...input, transforms }),
    setup,
    perGeneration,
    total,
    decidedBy: affordable.generations > mostGenerations ? 'views' : affordable.decidedBy,
    trainingImages: trainingImages.length,
    validationImages: validationImages.length,
    classes: input.classCount,
    rounds: new Set(views.training.map(({ firstClass }) => firstClass)).size,
    ...(embeds
      ? {
          imageCalls: imageCalls.limits,
          textEmbeddingsPerGeneration: 0,
          textEmbeddings: generations === 0 ? 0 : embedded,
        }
      : {}),
    ...calls,
    secondsAtProviderLimits: rate === null ? null : total.requests / rate,
  };
}

/** Answers to one view of all training images are held in memory at once, some times over while a head is fitted. */
const LARGEST_VIEW_NUMBERS = 128 * 1024 * 1024;

/** @throws InvalidRequestError before anything is spent on answers that there is no room for */
export function requireRoomForView(
  plan: Pick<TrainingPlan, 'generations' | 'trainingImages' | 'classes' | 'probes'>,
): void {
  const numbers = plan.trainingImages * (plan.classes + (plan.probes?.length ?? 0));
  if (plan.generations === 0 || numbers <= LARGEST_VIEW_NUMBERS) return;
  throw new InvalidRequestError({
    code: 'job_too_large',
    param: 'training_file',
    message: `The answers to one view of all training images would be ${numbers} numbers; ${LARGEST_VIEW_NUMBERS} are possible. Train on fewer images (shots), or lower probe_labels.`,
  });
}

/** The calls of the first generation; those after it have no validation images. Of a provider that embeds, its texts. */
export function economyCalls({
  trainingImages,
  validationImages,
  texts,
  calls,
}: Pick<EconomyPlanInput, 'trainingImages' | 'validationImages' | 'calls'> & { texts: CallTexts }): {
  training: CallRange[];
  validation: CallRange[];
} {
  const labels = texts.classes.names.length;
  const training = cutIntoCalls(1, trainingImages, labels, calls);
  const validation =
    calls.embedsTexts || validationImages.length === 0
      ? []
      : cutIntoCalls(1, validationImages, labels, calls, training.length);
  return { training, validation };
}

function validationCallsOf(sizes: number[], limits: CallLimits): CallRange[] {
  return sizes.length === 0 ? [] : cutIntoCalls(1, sizes, 1, limits);
}

function imageAmounts(provider: Pricing, calls: CallRange[]): QueryAmounts {
  return calls.map(({ imageCount }) => amountsOfImages(provider, imageCount)).reduce(addAmounts, NOTHING);
}

/** Of one image, where none of its views is known. */
function predictionAmounts({ provider, texts, calls, imageCalls, trainingImages, transforms }: EconomyPlanInput) {
  const sizes = transforms.map(() => trainingImages[0] ?? 0);
  if (imageCalls) return imageAmounts(provider, cutIntoCalls(1, sizes, 1, imageCalls.limits));
  return amountsOf(cutIntoCalls(1, sizes, texts.classes.names.length, calls), provider, texts);
}
