import { describe, expect, it } from 'vitest';
import { InvalidRequestError } from '../../../src/errors.js';
import {
  affordableGenerations,
  isWithinFirstView,
  type PlanInput,
  planTraining,
  type TrainingPlan,
} from '../../../src/jobs/plan.js';
import { NO_LIMITS, type QueryLimits } from '../../../src/ledger/accounts.js';
import type { CallTexts } from '../../../src/providers/amounts.js';
import { cutIntoCalls } from '../../../src/providers/calls.js';
import type { ProviderPrices } from '../../../src/providers/provider.js';
import { QUERIED } from '../../../src/views/transforms.js';

/** So many images of a thousand bytes. */
function sizes(count: number): number[] {
  return new Array<number>(count).fill(1000);
}

const FREE: ProviderPrices = {
  perRequestNanoUsd: 0n,
  perImageQueryNanoUsd: 0n,
  perInputTokenPicoUsd: 0n,
  perOutputTokenPicoUsd: 0n,
};

/** Names of two bytes each. */
function classTexts(count: number, templateBytes = 0): CallTexts {
  return { classes: { names: Array.from({ length: count }, (_, c) => String(c + 10)) }, templateBytes };
}

function input(limits: Partial<QueryLimits>, overrides: Partial<PlanInput> = {}): PlanInput {
  return {
    space: 'soft',
    populationSize: 40,
    trainingImages: sizes(352),
    validationImages: [],
    texts: classTexts(22),
    limits: { ...NO_LIMITS, ...limits },
    calls: { promptsPerRequest: 40, imagesPerRequest: 1024 },
    provider: {
      requestsPerSecond: null,
      prices: FREE,
      capabilities: {},
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
      classesPerRequest: 10,
      anchored: true,
      bytes: { perRequest: 50_000, perPrompt: 100 },
    };
    const plan = planTraining(input({ promptEvaluations: 41 }, { trainingImages, calls }));
    const stored = JSON.parse(JSON.stringify(plan)) as TrainingPlan;
    expect(cutIntoCalls(40, trainingImages, 22, stored)).toEqual(cutIntoCalls(40, trainingImages, 22, calls));
    expect(plan.perGeneration.requests).toBe(
      cutIntoCalls(40, trainingImages, 22, stored).length + cutIntoCalls(1, trainingImages, 22, stored).length,
    );
  });

  it('prices every call, rounded up', () => {
    const prices = { ...FREE, perImageQueryNanoUsd: 1n };
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

  it('counts every round of classes, and a prompt once', () => {
    const calls = { promptsPerRequest: 40, imagesPerRequest: 1024, classesPerRequest: 8, anchored: true };
    const plan = planTraining(input({ promptEvaluations: 82 }, { calls }));
    // Class 0 with 7 others, and twice 7 with class 0 again.
    expect(plan).toMatchObject({ rounds: 3, generations: 2, classes: 22 });
    expect(plan.perGeneration).toMatchObject({ promptEvaluations: 41, requests: 2 * 3, imageQueries: 3 * 41 * 352 });
  });

  it('lists more calls than a function takes arguments', () => {
    const limits = { promptsPerRequest: 1, imagesPerRequest: 1 };
    const { perGeneration } = planTraining(
      input({ promptEvaluations: 41 }, { trainingImages: sizes(10_000), calls: limits }),
    );
    expect(perGeneration).toMatchObject({ promptEvaluations: 41, requests: 410_000 });
  });

  it('refuses a generation of so many calls that there is no room for them, before it lists them', () => {
    const limits = { promptsPerRequest: 1, imagesPerRequest: 1 };
    const many = { populationSize: 1000, trainingImages: sizes(100_000), calls: limits };
    const error = refusal(input({ promptEvaluations: 1001 }, many));
    expect(error).toMatchObject({ code: 'job_too_large', param: 'training_file' });
    expect(error.message).toContain('100000000 requests');
  });

  it('asks about the centre of a text prompt on the validation images only: it was among the candidates', () => {
    const plan = planTraining(input({ promptEvaluations: 41 }, { space: 'text', validationImages: sizes(10) }));
    expect(plan.generations).toBe(1);
    expect(plan.perGeneration).toMatchObject({ promptEvaluations: 41, requests: 2, imageQueries: 40 * 352 + 10 });
  });

  it('counts texts alone of a provider that embeds, after its images once', () => {
    const limits = { promptsPerRequest: 1, imagesPerRequest: 100 };
    const calls = { promptsPerRequest: 4, imagesPerRequest: 100, embedsTexts: true };
    const prices = { ...FREE, perRequestNanoUsd: 1_000_000n };
    const embedding: Partial<PlanInput> = {
      space: 'text',
      calls,
      validationImages: sizes(48),
      imageCalls: { limits, counts: [100, 100, 100, 100] },
      provider: { ...input({}).provider, prices, requestsPerSecond: 2 },
    };
    const plan = planTraining(input({ requests: 27 }, embedding));
    expect(plan.setup).toEqual({ promptEvaluations: 0, imageQueries: 400, requests: 4, costMicroUsd: 4000 });
    expect(plan.perGeneration).toEqual({ promptEvaluations: 40, imageQueries: 0, requests: 10, costMicroUsd: 10_000 });
    expect(plan).toMatchObject({
      generations: 2,
      total: { promptEvaluations: 80, imageQueries: 400, requests: 24, costMicroUsd: 24_000 },
      textEmbeddingsPerGeneration: 40 * 22,
      imageCalls: limits,
      secondsAtProviderLimits: 12,
    });
  });

  it('refuses a budget that pays for the images only, saying that they come first', () => {
    const error = refusal(
      input(
        { imageQueries: 99 },
        {
          space: 'text',
          calls: { promptsPerRequest: 4, imagesPerRequest: 100, embedsTexts: true },
          imageCalls: { limits: { promptsPerRequest: 1, imagesPerRequest: 100 }, counts: [100] },
        },
      ),
    );
    expect(error).toMatchObject({ code: 'budget_too_small', param: 'method.craft.budget.max_image_queries' });
    expect(error.message).toContain('embeddings of the images');
    expect(error.message).toContain('needs 100 of max_image_queries');
  });

  it('prices tokens from above: images, texts and what surrounds them', () => {
    const tokens = { perImage: 85, perRequest: 50, bytesPerToken: 1, outputPerRequest: 1 };
    const prices = { ...FREE, perInputTokenPicoUsd: 1_000_000n, perOutputTokenPicoUsd: 4_000_000n };
    const provider = { requestsPerSecond: null, prices, capabilities: { tokens } };
    const calls = { promptsPerRequest: 1, imagesPerRequest: 1 };
    const plan = planTraining(
      input(
        { costMicroUsd: 1_000_000 },
        { space: 'text', provider, calls, trainingImages: sizes(3), texts: classTexts(4, 20), populationSize: 5 },
      ),
    );
    // Of each option its name, the template, its key and the line's end.
    const input1 = 50 + 85 + 4 * (2 + 20 + 8);
    expect(plan.perGeneration).toMatchObject({ requests: 15, costMicroUsd: 15 * (input1 + 4) });
  });
});

describe('affordableGenerations', () => {
  const perGeneration = { promptEvaluations: 10, imageQueries: 0, requests: 1, costMicroUsd: 0 };
  const setup = { promptEvaluations: 0, imageQueries: 100, requests: 2, costMicroUsd: 0 };

  it('takes what is spent before the first generation off', () => {
    expect(affordableGenerations({ perGeneration, setup }, { ...NO_LIMITS, requests: 12 })).toEqual({
      generations: 10,
      decidedBy: 'requests',
    });
    expect(affordableGenerations({ perGeneration, setup }, { ...NO_LIMITS, imageQueries: 99, requests: 12 })).toEqual({
      generations: 0,
      decidedBy: 'imageQueries',
    });
    expect(affordableGenerations({ perGeneration, setup }, { ...NO_LIMITS, imageQueries: 100 }).generations).toBe(
      Number.POSITIVE_INFINITY,
    );
  });

  it('takes the plan of a job from before there was anything to spend', () => {
    expect(affordableGenerations({ perGeneration }, { ...NO_LIMITS, promptEvaluations: 39 }).generations).toBe(3);
  });
});

describe('isWithinFirstView', () => {
  it.each([
    [QUERIED[4], [2, 3]],
    [QUERIED[2], []],
    [QUERIED[1], []],
    [undefined, []],
  ])('is so between the first generation and a whole view, of %j', (transforms, within) => {
    const generations = [0, 1, 2, 3, 4, 5, 6, 7];
    expect(generations.filter((generation) => isWithinFirstView({ transforms }, generation))).toEqual(within);
  });
});
