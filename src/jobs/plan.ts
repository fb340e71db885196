import { InvalidRequestError } from '../errors.js';
import { BUDGET_PARAMETERS, type QueryLimits } from '../ledger/ledger.js';
import { type CallLimits, cutIntoCalls, promptEvaluationsOf } from '../providers/calls.js';
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

export interface PlanInput {
  populationSize: number;
  /** Bytes of each image, in the job's order. */
  trainingImages: number[];
  validationImages: number[];
  classes: number;
  limits: QueryLimits;
  calls: CallLimits;
  provider: {
    requestsPerSecond: number | null;
    prices: ProviderPrices;
  };
}

const UNITS = ['promptEvaluations', 'imageQueries', 'requests', 'costMicroUsd'] as const;
const MAX_GENERATIONS = 1_000_000;

/**
 * Plans as many whole generations as the tightest limit pays for.
 * @throws InvalidRequestError when the budget does not pay for one generation, or does not bound the job at all
 */
export function planTraining(input: PlanInput): TrainingPlan {
  const perGeneration = generationAmounts(input);
  let generations = Number.POSITIVE_INFINITY;
  let decidedBy: keyof QueryAmounts = 'promptEvaluations';
  for (const unit of UNITS) {
    const limit = input.limits[unit];
    if (limit === null || perGeneration[unit] === 0) continue;
    const affordable = Math.floor(limit / perGeneration[unit]);
    if (affordable < generations) {
      generations = affordable;
      decidedBy = unit;
    }
  }
  const param = `method.craft.budget.${BUDGET_PARAMETERS[decidedBy]}`;
  if (generations > MAX_GENERATIONS) {
    throw new InvalidRequestError({
      code: 'budget_unbounded',
      param: 'method.craft.budget',
      message:
        generations === Number.POSITIVE_INFINITY
          ? 'max_cost_usd alone does not bound a job at a provider that charges nothing. Add max_prompt_evaluations or max_image_queries.'
          : `This budget pays for more than ${MAX_GENERATIONS} generations. Lower it; 8,000 prompt evaluations are what the method was published with.`,
    });
  }
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

/** λ candidates and the centre on the training images, and the centre on the validation images. */
function generationAmounts(input: PlanInput): QueryAmounts {
  const calls = [
    ...cutIntoCalls(input.populationSize, input.trainingImages, input.calls),
    ...cutIntoCalls(1, input.trainingImages, input.calls),
    ...cutIntoCalls(1, input.validationImages, input.calls),
  ];
  const amounts: QueryAmounts = { promptEvaluations: 0, imageQueries: 0, requests: calls.length, costMicroUsd: 0 };
  for (const call of calls) {
    const imageQueries = call.promptCount * call.imageCount;
    amounts.promptEvaluations += promptEvaluationsOf(call);
    amounts.imageQueries += imageQueries;
    amounts.costMicroUsd += costMicroUsd(input.provider.prices, 1, imageQueries);
  }
  return amounts;
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
