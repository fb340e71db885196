import { InvalidRequestError } from '../errors.js';
import { BUDGET_PARAMETERS, type QueryLimits, UNITS } from '../ledger/accounts.js';
import { type CallLimits, type CallRange, cutIntoCalls, promptEvaluationsOf } from '../providers/calls.js';
import { costMicroUsd, type ProviderPrices, type QueryAmounts } from '../providers/provider.js';

/**
 * What a job will do and spend, known before its first query. It keeps how calls are cut, so that a job asks the same
 * after a restart even if the provider's record changed.
 */
export interface TrainingPlan extends CallLimits {
  generations: number;
  perGeneration: QueryAmounts;
  /** Sum over all generations, if no call has to be repeated. */
  total: QueryAmounts;
  /** The limit that decides the number of generations. */
  decidedBy: keyof QueryAmounts;
  trainingImages: number;
  validationImages: number;
  classes: number;
  /** Wall time if the provider's requests per second are the bottleneck; null where it states no rate. */
  secondsAtProviderLimits: number | null;
}

export interface PlanInput extends GenerationInput {
  classes: number;
  limits: QueryLimits;
  provider: {
    requestsPerSecond: number | null;
    prices: ProviderPrices;
  };
}

const MAX_GENERATIONS = 1_000_000;

/**
 * Plans as many whole generations as the tightest limit pays for.
 * @throws InvalidRequestError when the budget does not pay for one generation, or does not bound the job at all
 */
export function planTraining(input: PlanInput): TrainingPlan {
  const perGeneration = amountsOf(generationCalls(input), input.provider.prices);
  const { generations, decidedBy } = affordableGenerations(perGeneration, input.limits);
  const param = `method.craft.budget.${BUDGET_PARAMETERS[decidedBy]}`;
  requireBounded(generations, 'method.craft.budget');
  if (generations < 1) {
    throw new InvalidRequestError({
      code: 'budget_too_small',
      param,
      message: tooSmallMessage(input, perGeneration, decidedBy),
    });
  }
  const total = Object.fromEntries(
    UNITS.map((unit) => [unit, perGeneration[unit] * generations]),
  ) as unknown as QueryAmounts;
  const rate = input.provider.requestsPerSecond;
  return {
    generations,
    perGeneration,
    total,
    decidedBy,
    trainingImages: input.trainingImages.length,
    validationImages: input.validationImages.length,
    classes: input.classes,
    ...input.calls,
    secondsAtProviderLimits: rate === null ? null : total.requests / rate,
  };
}

/** @throws InvalidRequestError when there is no end of generations */
export function requireBounded(generations: number, param: string | null): void {
  if (generations <= MAX_GENERATIONS) return;
  throw new InvalidRequestError({
    code: 'budget_unbounded',
    param,
    message:
      generations === Number.POSITIVE_INFINITY
        ? 'max_cost_usd alone does not bound a job at a provider that charges nothing. Add max_prompt_evaluations or max_image_queries.'
        : `This budget pays for more than ${MAX_GENERATIONS} generations. Lower it; 8,000 prompt evaluations are what the method was published with.`,
  });
}

/** What decides the calls of one generation. */
export interface GenerationInput {
  populationSize: number;
  /** Bytes of each image, in the job's order. */
  trainingImages: number[];
  validationImages: number[];
  calls: CallLimits;
}

/** λ candidates and the centre on the training images, and the centre on the validation images, numbered through. */
export function generationCalls({
  populationSize,
  trainingImages,
  validationImages,
  calls,
}: GenerationInput): CallRange[] {
  const cut: CallRange[] = [];
  for (const [prompts, images] of [
    [populationSize, trainingImages],
    [1, trainingImages],
    [1, validationImages],
  ] as const) {
    cut.push(...cutIntoCalls(prompts, images, calls, cut.length));
  }
  return cut;
}

/** What calls draw on the ledger together. */
export function amountsOf(calls: CallRange[], prices: ProviderPrices): QueryAmounts {
  const amounts: QueryAmounts = { promptEvaluations: 0, imageQueries: 0, requests: calls.length, costMicroUsd: 0 };
  for (const call of calls) {
    const imageQueries = call.promptCount * call.imageCount;
    amounts.promptEvaluations += promptEvaluationsOf(call);
    amounts.imageQueries += imageQueries;
    amounts.costMicroUsd += costMicroUsd(prices, 1, imageQueries);
  }
  return amounts;
}

/** Whole generations that the limits pay for, and the unit that decides; infinite where none limits. */
export function affordableGenerations(
  perGeneration: QueryAmounts,
  limits: QueryLimits,
): { generations: number; decidedBy: keyof QueryAmounts } {
  let generations = Number.POSITIVE_INFINITY;
  let decidedBy: keyof QueryAmounts = 'promptEvaluations';
  for (const unit of UNITS) {
    const limit = limits[unit];
    if (limit === null || perGeneration[unit] === 0) continue;
    const affordable = Math.floor(limit / perGeneration[unit]);
    if (affordable < generations) {
      generations = affordable;
      decidedBy = unit;
    }
  }
  return { generations, decidedBy };
}

function tooSmallMessage(input: PlanInput, amounts: QueryAmounts, unit: keyof QueryAmounts): string {
  const name = BUDGET_PARAMETERS[unit];
  const show = (value: number) => (unit === 'costMicroUsd' ? `${value / 1e6}` : `${value}`);
  const validationImages = input.validationImages.length;
  const validation = validationImages > 0 ? ` and 1 on ${validationImages} validation images` : '';
  return (
    `One generation needs ${show(amounts[unit])} of ${name} (${input.populationSize} candidates and the centre on ` +
    `${input.trainingImages.length} training images${validation}), but the budget is ${show(input.limits[unit] ?? 0)}. ` +
    `Raise ${name}, lower population_size, or train on fewer images.`
  );
}
