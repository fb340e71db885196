import { describe, expect, it } from 'vitest';
import { InvalidRequestError } from '../../../src/errors.js';
import { type PlanInput, planTraining, type TrainingPlan } from '../../../src/jobs/plan.js';
import { NO_LIMITS, type QueryLimits } from '../../../src/ledger/accounts.js';
import { cutIntoCalls } from '../../../src/providers/calls.js';

/** So many images of a thousand bytes. */
function sizes(count: number): number[] {
  return new Array<number>(count).fill(1000);
}

function input(limits: Partial<QueryLimits>, overrides: Partial<PlanInput> = {}): PlanInput {
  return {
    populationSize: 40,
    trainingImages: sizes(352),
    validationImages: [],
    classes: 22,
    limits: { ...NO_LIMITS, ...limits },
    calls: { promptsPerRequest: 40, imagesPerRequest: 1024 },
    provider: {
      requestsPerSecond: null,
      prices: { perRequestNanoUsd: 0n, perImageQueryNanoUsd: 0n },
    },
    ...overrides,
  };
}

function refusal(planInput: PlanInput): InvalidRequestError {
  try {
    planTraining(planInput);
  } catch (error) {
    if (error instanceof InvalidRequestError) return error;
  }
  throw new Error('the plan was not refused');
}

describe('planTraining', () => {
  it('counts the candidates and the centre of every generation', () => {
    const plan = planTraining(input({ promptEvaluations: 8000 }));
    expect(plan.generations).toBe(195);
    expect(plan.perGeneration).toEqual({ promptEvaluations: 41, imageQueries: 41 * 352, requests: 2, costMicroUsd: 0 });
    expect(plan.total.imageQueries).toBe(195 * 41 * 352);
  });

  it('adds the centre on the validation images', () => {
    const plan = planTraining(input({ promptEvaluations: 42 }, { validationImages: sizes(10) }));
    expect(plan.perGeneration).toMatchObject({ promptEvaluations: 42, imageQueries: 41 * 352 + 10, requests: 3 });
  });

  it('lets the tightest of several limits decide', () => {
    const plan = planTraining(input({ promptEvaluations: 8000, imageQueries: 10 * 41 * 352 + 1, requests: 1000 }));
    expect(plan.generations).toBe(10);
    expect(plan.decidedBy).toBe('imageQueries');
  });

  it('counts the requests that a provider with small requests needs, and the time at its rate', () => {
    const provider = { ...input({}).provider, requestsPerSecond: 8 };
    const calls = { promptsPerRequest: 16, imagesPerRequest: 100 };
    const plan = planTraining(input({ requests: 160 }, { calls, provider }));
    // 3 parts of the candidates × 4 parts of the images, and 4 parts for the centre.
    expect(plan.perGeneration.requests).toBe(16);
    expect(plan.generations).toBe(10);
    expect(plan.secondsAtProviderLimits).toBe(20);
  });

  it('counts the requests that large images need', () => {
    const photos = new Array<number>(352).fill(800_000);
    const calls = { promptsPerRequest: 40, imagesPerRequest: 1024, bytes: { perRequest: 2 ** 25, perPrompt: 2048 } };
    const plan = planTraining(input({ promptEvaluations: 41 }, { trainingImages: photos, calls }));
    // 41 photos fit in a request.
    expect(plan.perGeneration).toMatchObject({ requests: 2 * 9, promptEvaluations: 41, imageQueries: 41 * 352 });
  });

  it('keeps all that decides how calls are cut', () => {
    const trainingImages = Array.from({ length: 50 }, (_, i) => 1000 * (i % 7));
    const calls = {
      promptsPerRequest: 16,
      imagesPerRequest: 100,
      imageQueriesPerRequest: 256,
      bytes: { perRequest: 50_000, perPrompt: 100 },
    };
    const plan = planTraining(input({ promptEvaluations: 41 }, { trainingImages, calls }));
    const stored = JSON.parse(JSON.stringify(plan)) as TrainingPlan;
    expect(cutIntoCalls(40, trainingImages, stored)).toEqual(cutIntoCalls(40, trainingImages, calls));
    expect(plan.perGeneration.requests).toBe(
      cutIntoCalls(40, trainingImages, stored).length + cutIntoCalls(1, trainingImages, stored).length,
    );
  });

  it('prices every call, rounded up', () => {
    const prices = { perRequestNanoUsd: 0n, perImageQueryNanoUsd: 1n };
    const provider = { ...input({}).provider, prices };
    const plan = planTraining(input({ costMicroUsd: 32 }, { provider }));
    // 40 × 352 nano-dollars are 14.08 micro-dollars, 352 are 0.352.
    expect(plan.perGeneration.costMicroUsd).toBe(15 + 1);
    expect(plan.generations).toBe(2);
  });

  it('refuses a budget below one generation, naming the limit and what it takes', () => {
    const error = refusal(input({ imageQueries: 41 * 352 - 1 }));
    expect(error).toMatchObject({ code: 'budget_too_small', param: 'method.craft.budget.max_image_queries' });
    expect(error.message).toContain(String(41 * 352));
  });

  it('refuses a cost limit at a provider that charges nothing', () => {
    expect(refusal(input({ costMicroUsd: 5_000_000 }))).toMatchObject({
      code: 'budget_unbounded',
      param: 'method.craft.budget',
    });
  });
});
