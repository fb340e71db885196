import { describe, expect, it } from 'vitest';
import { type EconomyPlanInput, planEconomy } from '../../../src/jobs/economy-plan.js';
import { wholeViews } from '../../../src/jobs/plan.js';
import { NO_LIMITS, type QueryLimits } from '../../../src/ledger/accounts.js';
import { QUERIED } from '../../../src/views/transforms.js';

/** Training images: so few that 32 views of each help. */
const N = 22;
const sizes = (count: number) => new Array<number>(count).fill(1000);

function plan(limits: Partial<QueryLimits>, overrides: Partial<EconomyPlanInput> = {}) {
  return planEconomy({
    trainingImages: sizes(N),
    validationImages: [],
    classCount: 22,
    texts: { classes: { names: Array.from({ length: 150 }, (_, c) => String(c + 100)) }, templateBytes: 0 },
    limits: { ...NO_LIMITS, ...limits },
    calls: { promptsPerRequest: 40, imagesPerRequest: 6 },
    provider: {
      requestsPerSecond: 2,
      prices: {
        perRequestNanoUsd: 0n,
        perImageQueryNanoUsd: 1_000_000n,
        perInputTokenPicoUsd: 0n,
        perOutputTokenPicoUsd: 0n,
      },
      capabilities: {},
    },
    mostViews: 32,
    transforms: ['identity'],
    probes: ['tree'],
    ...overrides,
  });
}

/** Of a provider that embeds: texts by themselves, images by themselves. */
const EMBEDS: Partial<EconomyPlanInput> = {
  texts: { classes: { names: Array.from({ length: 22 }, (_, c) => String(c + 10)) }, templateBytes: 0 },
  calls: { promptsPerRequest: 10, imagesPerRequest: 1, embedsTexts: true },
  imageCalls: { limits: { promptsPerRequest: 1, imagesPerRequest: 6 }, counts: [] },
  probes: [],
};

describe('planEconomy', () => {
  it('asks one query of each training image and view', () => {
    const { generations, perGeneration, total, setup, decidedBy, secondsAtProviderLimits } = plan({
      imageQueries: 8 * N + N - 1,
    });
    expect(generations).toBe(8);
    expect(perGeneration).toEqual({ promptEvaluations: 1, imageQueries: N, requests: 4, costMicroUsd: 22_000 });
    expect(setup).toEqual({ promptEvaluations: 0, imageQueries: 0, requests: 0, costMicroUsd: 0 });
    expect(total).toEqual({ promptEvaluations: 8, imageQueries: 8 * N, requests: 32, costMicroUsd: 8 * 22_000 });
    expect(decidedBy).toBe('imageQueries');
    expect(secondsAtProviderLimits).toBe(16);
  });

  it('refuses a view of so many calls that there is no room for them, before it lists them', () => {
    const calls = { promptsPerRequest: 1, imagesPerRequest: 1, classesPerRequest: 1 };
    expect(() => plan({ imageQueries: 10 }, { trainingImages: sizes(100_000), calls })).toThrow(
      expect.objectContaining({ code: 'job_too_large', param: 'training_file' }),
    );
  });

  it('asks about no more views than pay', () => {
    expect(plan({ imageQueries: 1e6 })).toMatchObject({ generations: 32, mostGenerations: 32, decidedBy: 'views' });
    expect(plan({ imageQueries: 1e6 }, { mostViews: 4 })).toMatchObject({ generations: 4, mostGenerations: 4 });
    expect(plan({})).toMatchObject({ generations: 32, decidedBy: 'views' });
  });

  it.each([
    [12, 64, 64],
    [22, 64, 32],
    [22, 32, 32],
    [22, 4, 4],
    [176, 32, 4],
    [352, 32, 2],
    [352, 1, 1],
    [16_000, 32, 2],
  ])(
    'asks about no more views of %d images than help, nor than the %d that are allowed',
    (images, mostViews, views) => {
      const made = plan({ imageQueries: 1e9 }, { trainingImages: sizes(images), mostViews });
      expect(made).toMatchObject({ generations: views, mostGenerations: views, decidedBy: 'views' });
      expect(made.total.imageQueries).toBe(views * images);
      // What pays for exactly these views leaves nothing over: the budget decides.
      const exact = plan({ imageQueries: views * images }, { trainingImages: sizes(images), mostViews });
      expect(exact).toMatchObject({ generations: views, decidedBy: 'imageQueries' });
    },
  );

  it('asks about every transform of the views that help', () => {
    const made = plan({ imageQueries: 1e6 }, { trainingImages: sizes(352), transforms: QUERIED[4] });
    expect(made).toMatchObject({ generations: 8, mostGenerations: 8, transforms: QUERIED[4], decidedBy: 'views' });
  });

  it('asks about validation images once', () => {
    const { setup, total, generations } = plan({ imageQueries: 3 * N + 10 }, { validationImages: sizes(10) });
    expect(generations).toBe(3);
    expect(setup).toMatchObject({ imageQueries: 10, requests: 2, promptEvaluations: 1 });
    expect(total.imageQueries).toBe(3 * N + 10);
    expect(plan({ imageQueries: 3 * N + 9 }, { validationImages: sizes(10) }).generations).toBe(2);
  });

  it('asks about every view, and once about validation images, in all transforms', () => {
    const overrides = { validationImages: sizes(10), transforms: QUERIED[4] };
    const two = plan({ imageQueries: 8 * N + 40 }, overrides);
    expect(two).toMatchObject({ generations: 8, transforms: QUERIED[4], mostGenerations: 128 });
    expect(two.total.imageQueries).toBe(8 * N + 40);
    expect(two.perPrediction).toMatchObject({ imageQueries: 4, requests: 1 });
  });

  it('spends nothing on a part of a view, of which nothing is learned', () => {
    const most = plan({ imageQueries: 7 * N }, { transforms: QUERIED[4] });
    expect(most).toMatchObject({ generations: 4, transforms: QUERIED[4] });
    expect(most.total.imageQueries).toBe(4 * N);
  });

  it.each([
    [4, 4, 4],
    [3, 3, 3],
    [2, 2, 2],
    [1, 1, 1],
    [0, 0, 1],
  ])('of four transforms, asks about as many as %d queries of each image pay for', (paid, generations, transforms) => {
    const validationImages = sizes(10);
    const made = plan({ imageQueries: paid * (N + 10) }, { transforms: QUERIED[4], validationImages });
    expect(made.generations).toBe(generations);
    expect(made.transforms).toEqual(QUERIED[4].slice(0, transforms));
    expect(made.perPrediction?.imageQueries).toBe(transforms);
    expect(made.total.imageQueries).toBe(paid * (N + 10));
  });

  it('of a budget that pays for none, plans nothing at no cost', () => {
    const nothing = plan({ imageQueries: N - 1 }, { validationImages: sizes(10) });
    expect(nothing.generations).toBe(0);
    expect(Object.values(nothing.total)).toEqual([0, 0, 0, 0]);
    // What a first generation would need beside its own queries, should the budget be raised.
    expect(nothing.setup).toMatchObject({ imageQueries: 10, requests: 2 });
    expect(nothing.mostGenerations).toBeGreaterThanOrEqual(1);
  });

  it('of a provider that embeds, pays for its texts once and for images as they are embedded', () => {
    const made = plan({ imageQueries: 2 * N + 10 }, { ...EMBEDS, validationImages: sizes(10) });
    expect(made.generations).toBe(2);
    expect(made.perGeneration).toMatchObject({ imageQueries: N, requests: 4, promptEvaluations: 0 });
    expect(made.setup).toMatchObject({ imageQueries: 10, promptEvaluations: 1, requests: 3 });
    expect(made.total).toMatchObject({ imageQueries: 2 * N + 10, requests: 11, promptEvaluations: 1 });
    expect(made).toMatchObject({ textEmbeddings: 22, textEmbeddingsPerGeneration: 0, classes: 22 });
    expect(made.perPrediction).toMatchObject({ imageQueries: 1, requests: 1, promptEvaluations: 0 });
  });

  it('holds no more answers than there is memory for', () => {
    const names = Array.from({ length: 1512 }, (_, c) => String(c));
    const large = { trainingImages: sizes(16_000), texts: { classes: { names }, templateBytes: 0 }, classCount: 1000 };
    expect(plan({}, large)).toMatchObject({ generations: 1, mostGenerations: 1 });
    expect(plan({}, { ...large, transforms: QUERIED[4] })).toMatchObject({ generations: 1, transforms: ['identity'] });
    // Of so many images two views would help.
    const fewer = plan({}, { ...large, trainingImages: sizes(6000), transforms: QUERIED[4] });
    expect(fewer).toMatchObject({ generations: 4, transforms: QUERIED[4] });
  });

  it('lets the tightest of several limits decide', () => {
    expect(plan({ imageQueries: 1e5, requests: 11 })).toMatchObject({ generations: 2, decidedBy: 'requests' });
    expect(plan({ imageQueries: 1e5, costMicroUsd: 30_000 })).toMatchObject({
      generations: 1,
      decidedBy: 'costMicroUsd',
    });
    expect(plan({ promptEvaluations: 5 })).toMatchObject({ generations: 5, decidedBy: 'promptEvaluations' });
  });
});

describe('wholeViews', () => {
  it('leaves out what is part of a view, where there are transforms', () => {
    expect([7, 8, 0].map((count) => wholeViews({ transforms: QUERIED[4] }, count))).toEqual([4, 8, 0]);
    expect(wholeViews({}, 7)).toBe(7);
  });
});
