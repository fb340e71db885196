import fc from 'fast-check';
import { beforeAll, describe, expect, it } from 'vitest';
import { probeLabelsFor } from '../../src/craft/economy/probe-labels.js';
import { type ExampleImage, toJsonl } from '../../src/demo/example-data.js';
import { readSafetensors } from '../../src/formats/safetensors.js';
import {
  errorOf,
  exampleImages,
  ok,
  quickJob,
  sendForm,
  servedDuring,
  uploadImages,
  used,
  withTensor,
} from '../helpers/api.js';
import {
  type Adapter,
  adapterBytes,
  createEconomyJob,
  type EconomyJob,
  economyJob,
  messagesOf,
  type Predicted,
  predict,
  runEconomyJob,
} from '../helpers/economy-jobs.js';
import { type TestService, testService } from '../helpers/service.js';

const JOBS = '/v1/fine_tuning/jobs';
const CLASSES = 3;
const SHOTS = 4;
/** Training images, and so the image queries of a generation. */
const N = CLASSES * SHOTS;

let service: TestService;
let file: string;
let images: ExampleImage[];
let test: ExampleImage[];

beforeAll(async () => {
  service = await testService();
  images = await exampleImages(CLASSES, SHOTS);
  test = await exampleImages(CLASSES, 2, 'test');
  file = await uploadImages(service, images);
  // A price, so that a cost can limit a job.
  const [{ id }] = (await ok<{ data: { id: string }[] }>(service.request('GET', '/v1/providers'))).data;
  await ok(
    service.request('PATCH', `/v1/providers/${id}`, {
      prices: { per_image_query_usd: 0.001, per_request_usd: 0.01 },
    }),
  );
});

const job = (factor: number, craft: Record<string, unknown> = {}, rest: Record<string, unknown> = {}) =>
  economyJob(file, { budget: { max_image_queries: factor * N }, ...craft }, rest);

describe('the plan of an economy job', () => {
  it('says what was picked, why, and what a prediction costs, and creates nothing as a dry run', async () => {
    const { job: { id } = { id: '' }, ...dry } = await ok<{ job?: EconomyJob; plan: EconomyJob['plan'] }>(
      service.request('POST', `${JOBS}?dry_run=true`, job(4, { prediction_queries: 2 })),
    );
    expect(id).toBe('');
    const classNames = [...new Set(images.map(({ label }) => label))];
    expect(dry.plan).toMatchObject({
      strategy: 'economy',
      strategy_reason: expect.stringContaining('per image query'),
      generations: 4,
      training_images: N,
      validation_images: 0,
      decided_by: 'max_image_queries',
      rounds: 1,
      prediction: {
        transforms: ['identity', 'mirror'],
        usage: { prompt_evaluations: 1, image_queries: 2, requests: 1, cost_usd: 0.012 },
      },
      per_generation: { prompt_evaluations: 1, image_queries: N, requests: 1 },
      total: { prompt_evaluations: 4, image_queries: 4 * N, requests: 4 },
    });
    expect(dry.plan.probe_labels).toEqual(probeLabelsFor(classNames, 128));
  });

  it.each([
    ['economy by name', { strategy: 'economy' }, 'economy', /asked for/],
    ['paper by name', { strategy: 'paper', budget: { max_prompt_evaluations: 41 } }, 'paper', /asked for/],
    [
      'a hyperparameter',
      { hyperparameters: { population_size: 4 }, budget: { max_prompt_evaluations: 15 } },
      'paper',
      /hyperparameters\.population_size/,
    ],
  ])('of %s', async (_, craft, strategy, reason) => {
    const dry = await ok<{ plan: EconomyJob['plan'] }>(service.request('POST', `${JOBS}?dry_run=true`, job(2, craft)));
    expect(dry.plan.strategy).toBe(strategy);
    expect(dry.plan.strategy_reason).toMatch(reason);
  });

  it.each([
    ['economy with hyperparameters', { strategy: 'economy', hyperparameters: { population_size: 4 } }],
    ['paper with views', { strategy: 'paper', views: 2 }],
    ['paper with probe labels', { strategy: 'paper', probe_labels: 0 }],
    ['both', { hyperparameters: { population_size: 4 }, prediction_queries: 2 }],
  ])('is refused for %s', async (_, craft) => {
    const error = await errorOf(await service.request('POST', JOBS, job(2, craft)), 400);
    expect(error.code).toBe('not_used_by_strategy');
    expect(error.param).toMatch(
      /^method\.craft\.(hyperparameters\.population_size|views|probe_labels|prediction_queries)$/,
    );
  });
});

describe('an economy job', () => {
  it.each([
    { factor: 1, craft: {}, generations: 1, transforms: 1 },
    { factor: 4, craft: {}, generations: 4, transforms: 1 },
    { factor: 4, craft: { prediction_queries: 2 }, generations: 4, transforms: 2 },
    { factor: 8, craft: { prediction_queries: 8 }, generations: 8, transforms: 8 },
    // One view in as many transforms as the budget pays for.
    { factor: 3, craft: { prediction_queries: 8 }, generations: 3, transforms: 3 },
    { factor: 9, craft: { views: 2 }, generations: 2, transforms: 1 },
    { factor: 2, craft: { probe_labels: 0 }, generations: 2, transforms: 1 },
  ])(
    'of $factor·N image queries with $craft costs what its plan says',
    async ({ factor, craft, generations, transforms }) => {
      const { job: done, counts } = await runEconomyJob(service, job(factor, craft));
      expect(done).toMatchObject({ status: 'succeeded', error: null, stop_reason: null });
      expect(done.progress).toMatchObject({ generation: generations, generations, fraction: 1 });
      expect(counts).toEqual({
        prompt_evaluations: generations,
        image_queries: generations * N,
        requests: generations,
      });
      expect(used(done)).toEqual(counts);
      expect(done.plan.total).toMatchObject(counts);
      expect(done.budget.cost_usd.used).toBeCloseTo(done.plan.total.cost_usd, 9);
      expect(done.plan.prediction?.transforms).toHaveLength(transforms);

      const answer = await servedDuring(service, () => predict(service, done.fine_tuned_model, test));
      expect(answer.counts.image_queries).toBe(test.length * transforms);
      expect(answer.result.usage).toMatchObject(answer.counts);
      expect(done.plan.prediction?.usage.image_queries).toBe(transforms);
      expect(answer.result.data.map(({ predictions }) => predictions.length)).toEqual(test.map(() => 3));
    },
  );

  it('answers what the black box alone says, and views at their price', async () => {
    const { job: done } = await runEconomyJob(service, job(4, { prediction_queries: 2 }));
    const zero = await ok<Predicted>(
      service.request('POST', `/v1/providers/${(await providerOf()).id}/zero_shot`, {
        images: test.map(({ bytes }) => `data:image/png;base64,${bytes.toString('base64')}`),
        labels: [...new Set(images.map(({ label }) => label))],
      }),
    );
    const path = `/v1/adapters/${done.fine_tuned_model}/predict`;
    for (const views of [1, 3]) {
      const answer = await servedDuring(service, () =>
        predict(service, done.fine_tuned_model, test, { black_box: true, views }),
      );
      expect(answer.counts.image_queries).toBe(test.length * 2 * views);
      expect(answer.result.usage.image_queries).toBe(test.length * 2 * views);
      for (const [i, { black_box_predictions: alone = [] }] of answer.result.data.entries()) {
        expect(alone.map(({ label }) => label)).toEqual(zero.data[i].predictions.map(({ label }) => label));
        for (const [at, { score }] of alone.entries()) expect(score).toBeCloseTo(zero.data[i].predictions[at].score, 4);
      }
    }
    const form = await sendForm(service, path, [
      { name: 'views', value: '3' },
      ...test.map(({ bytes }, i) => ({ name: 'images', value: new Uint8Array(bytes), filename: `${i}.png` })),
    ]);
    const asJson = await predict(service, done.fine_tuned_model, test, { views: 3 });
    expect((await ok<Predicted>(form)).data).toEqual(asJson.data);

    const [image] = test.map(({ bytes }) => `data:image/png;base64,${bytes.toString('base64')}`);
    // Two transforms of 16 views of each.
    const many = await service.request('POST', path, { images: new Array(129).fill(image), views: 16 });
    expect(await errorOf(many, 400)).toMatchObject({ code: 'too_many_image_queries', param: 'views' });
    for (const views of [0, 17, 1.5, '2']) {
      const refused = await service.request('POST', path, { images: [image], views });
      expect((await errorOf(refused, 400)).param).toBe('views');
    }
    const inForm = await sendForm(service, path, [
      { name: 'views', value: '17' },
      { name: 'images', value: new Uint8Array(test[0].bytes), filename: '0.png' },
    ]);
    expect((await errorOf(inForm, 400)).param).toBe('views');
  });

  it('is the only kind whose adapters know views', async () => {
    const paper = await service.finished((await createEconomyJob(service, quickJob(file))).id);
    const [image] = test.map(({ bytes }) => `data:image/png;base64,${bytes.toString('base64')}`);
    const { counts } = await servedDuring(service, async () => {
      const path = `/v1/adapters/${paper.fine_tuned_model}/predict`;
      const refused = await service.request('POST', path, { images: [image], views: 2 });
      expect(await errorOf(refused, 400)).toMatchObject({ code: 'views_not_supported', param: 'views' });
    });
    expect(counts.image_queries).toBe(0);
  });

  it('is the same again with the same seed, and tells of its views', async () => {
    const [first, second] = await Promise.all([1, 2].map(async () => (await runEconomyJob(service, job(3))).job));
    expect(await adapterBytes(service, first)).toEqual(await adapterBytes(service, second));
    const messages = await messagesOf(service, first.id);
    expect(messages[0]).toMatch(
      /by strategy economy: 3 views of 12 training images of 3 classes, 3 prompt evaluations, 36 image queries, 3 requests/,
    );
    expect(messages.at(-1)).toContain(`the adapter is ${first.fine_tuned_model}`);
  });

  it('asks about no more views than help with so many images, says so, and leaves the rest of its budget', async () => {
    const [classes, shots, helpful] = [7, 16, 4];
    const many = await uploadImages(service, await exampleImages(classes, shots));
    const budget = { max_image_queries: 100 * classes * shots };
    const { job: done, counts } = await runEconomyJob(service, economyJob(many, { budget, views: 64 }));
    expect(done).toMatchObject({
      status: 'succeeded',
      stop_reason: null,
      progress: { generation: helpful, generations: helpful, fraction: 1 },
      plan: { decided_by: 'views', total: { image_queries: helpful * classes * shots } },
    });
    expect(counts.image_queries).toBe(helpful * classes * shots);
    expect(used(done)).toEqual(counts);
    const messages = await messagesOf(service, done.id);
    expect(messages[0]).toMatch(
      /4 views of 112 training images .* More views are not asked about, whatever the budget\./,
    );
    expect(messages.at(-1)).toMatch(/all the views that it asks about; what is left of the budget is not spent/);
    const more = { max_image_queries: 2 * budget.max_image_queries };
    const refused = await service.request('POST', `${JOBS}/${done.id}/budget`, more);
    expect(await errorOf(refused, 409)).toMatchObject({ code: 'plan_is_complete', param: 'fine_tuning_job_id' });
  });

  it('makes an adapter that compares images with those it has learned from, the same after export and import', async () => {
    const many = await uploadImages(service, await exampleImages(7, 16));
    const budget = { max_image_queries: 2 * 2 * 7 * 16 };
    const { job: done } = await runEconomyJob(service, economyJob(many, { budget, prediction_queries: 2 }));
    const bytes = await adapterBytes(service, done);
    const { metadata } = readSafetensors(bytes);
    expect(metadata.version).toBe('4');
    const { id } = await ok<{ id: string }>(
      sendForm(service, '/v1/adapters/import', [
        { name: 'model', value: 'emoji-clip' },
        { name: 'file', value: new Uint8Array(bytes), filename: 'adapter.safetensors' },
      ]),
    );
    const { prediction } = await ok<Adapter>(service.request('GET', `/v1/adapters/${id}`));
    expect(prediction).toEqual(done.plan.prediction);
    expect((await predict(service, id, await exampleImages(1, 1, 'test'))).usage).toEqual(prediction?.usage);
    const asked = await exampleImages(7, 3, 'test');
    for (const views of [1, 2]) {
      const [trained, imported] = [
        await predict(service, done.fine_tuned_model, asked, { views }),
        await predict(service, id, asked, { views }),
      ];
      expect(imported.data).toEqual(trained.data);
      expect(trained.usage.image_queries).toBe(asked.length * 2 * views);
    }
    const space = 'head.space.0.landmarks';
    const damaged = withTensor(bytes, space, [1, 1], Float32Array.of(1));
    const refused = await sendForm(service, '/v1/adapters/import', [
      { name: 'model', value: 'emoji-clip' },
      { name: 'file', value: damaged, filename: 'adapter.safetensors' },
    ]);
    expect((await errorOf(refused, 400)).code).toBe('invalid_adapter_file');
  });

  it('validates in each transform, once, and its best checkpoint becomes the adapter', async () => {
    const V = CLASSES;
    const craft = { validation_fraction: 0.25, checkpoint_selection: 'best_validation', prediction_queries: 2 };
    // 9 training images, 3 for validation.
    const budget = { max_image_queries: 4 * (N - V) + 2 * V };
    const { job: done, counts } = await runEconomyJob(service, economyJob(file, { ...craft, budget }));
    expect(done).toMatchObject({ status: 'succeeded', plan: { training_images: N - V, validation_images: V } });
    expect(counts.image_queries).toBe(budget.max_image_queries);
    expect(done.plan.total).toMatchObject(counts);
    expect(done.plan.setup.image_queries).toBe(2 * V);
    const { best } = done.metrics;
    const checkpoints = await ok<{ data: { step_number: number; fine_tuned_model_checkpoint: string }[] }>(
      service.request('GET', `${JOBS}/${done.id}/checkpoints`),
    );
    const adapter = await ok<{ metrics: { generation: number } }>(
      service.request('GET', `/v1/adapters/${done.fine_tuned_model}`),
    );
    expect(adapter.metrics.generation).toBe(best?.generation);
    // Every kept generation predicts, also those that had not met all transforms.
    expect(checkpoints.data.map(({ step_number: step }) => step)).toContain(1);
    for (const { step_number: step, fine_tuned_model_checkpoint: id } of checkpoints.data) {
      const answer = await servedDuring(service, () => predict(service, id, test));
      expect(answer.counts.image_queries).toBe(test.length * Math.min(2, step));
    }
  });

  it('tells the validation figures of the head as of each generation', async () => {
    const craft = { validation_fraction: 0.25, budget: { max_image_queries: 3 * (N - CLASSES) + CLASSES } };
    const { job: done } = await runEconomyJob(service, economyJob(file, craft));
    const events = await service.core.database.jobEvent.findMany({ where: { jobId: done.id, type: 'metrics' } });
    const losses = events.map(({ data }) => (data as { validation_loss: number }).validation_loss);
    // The third view is no choice: its head is the second one's kind.
    expect(losses).toHaveLength(3);
    expect(new Set(losses).size).toBe(3);
    const adapter = await ok<{ metrics: object }>(service.request('GET', `/v1/adapters/${done.fine_tuned_model}`));
    expect(adapter.metrics).toMatchObject({ generation: 3, validation_loss: losses[2] });
  });

  it('is created once for an Idempotency-Key, which stands for its strategy, too', async () => {
    const headers = { 'idempotency-key': 'economy-1' };
    const first = await createEconomyJob(service, job(1), headers);
    expect((await createEconomyJob(service, job(1), headers)).id).toBe(first.id);
    const named = await service.request('POST', JOBS, job(1, { strategy: 'economy' }), headers);
    expect((await errorOf(named, 409)).code).toBe('idempotency_key_reused');
    await service.finished(first.id);
    expect((await createEconomyJob(service, job(1), headers)).status).toBe('succeeded');
  });
});

describe('a budget', () => {
  it('of less than one query an image trains on fewer shots, and then on none', async () => {
    const { job: fewer, counts } = await runEconomyJob(service, economyJob(file, { budget: { max_image_queries: 8 } }));
    expect(fewer.plan).toMatchObject({ training_images: 2 * CLASSES, generations: 1 });
    expect(fewer.plan.strategy_reason).toContain('2 shots');
    expect(fewer.method.craft.shots).toBe(2);
    expect(counts.image_queries).toBe(2 * CLASSES);

    const untrained = await runEconomyJob(service, economyJob(file, { budget: { max_image_queries: 2 } }));
    expect(untrained.job).toMatchObject({ status: 'succeeded', error: null, progress: { generation: 0 } });
    expect(untrained.job.plan.strategy_reason).toContain('untrained');
    expect(untrained.job.plan.total.image_queries).toBe(0);
    expect(untrained.counts).toEqual({ prompt_evaluations: 0, image_queries: 0, requests: 0 });
    const { data } = await predict(service, untrained.job.fine_tuned_model, test, { black_box: true });
    for (const { predictions, black_box_predictions } of data) expect(predictions).toEqual(black_box_predictions);
  });

  it('is never passed, whatever it limits', async () => {
    const budgets = fc.oneof(
      fc.record({ max_image_queries: fc.integer({ min: 1, max: 5 * N }) }),
      fc.record({ max_requests: fc.integer({ min: 1, max: 4 }), max_image_queries: fc.integer({ min: 1, max: 60 }) }),
      fc.record({ max_cost_usd: fc.integer({ min: 1, max: 90 }).map((cents) => cents / 1000) }),
      fc.record({ max_prompt_evaluations: fc.integer({ min: 1, max: 4 }) }),
    );
    const craft = fc.record(
      {
        prediction_queries: fc.constantFrom(1, 2, 4),
        validation_fraction: fc.constant(0.25),
        views: fc.constantFrom(1, 3),
      },
      { requiredKeys: [] },
    );
    await fc.assert(
      fc.asyncProperty(budgets, craft, async (budget, rest) => {
        const { job: done, counts } = await runEconomyJob(service, economyJob(file, { budget, ...rest }));
        expect(done).toMatchObject({ status: 'succeeded', error: null });
        expect(used(done)).toEqual(counts);
        expect(done.plan.total).toMatchObject(counts);
        const spent: Record<string, number> = { ...counts, cost_usd: done.budget.cost_usd.used };
        for (const [name, limit] of Object.entries(budget)) {
          expect(spent[name.slice('max_'.length)], name).toBeLessThanOrEqual(limit + 1e-9);
        }
        const trained = done.plan.generations > 0;
        expect(done.progress.generation).toBe(done.plan.generations);
        expect(trained).toBe(counts.image_queries > 0);
        const answer = await predict(service, done.fine_tuned_model, test.slice(0, 1), { black_box: true });
        const [{ predictions, black_box_predictions }] = answer.data;
        if (!trained) expect(predictions).toEqual(black_box_predictions);
      }),
      { numRuns: 8, seed: 6 },
    );
  });
});

describe('a job of before there was a choice', () => {
  it('is shown and goes on as the published algorithm', async () => {
    const done = await service.finished((await createEconomyJob(service, quickJob(file))).id);
    const { plan } = await service.core.database.job.findUniqueOrThrow({ where: { id: done.id } });
    const { strategy: _, strategyReason: __, ...old } = plan as Record<string, never>;
    await service.core.database.job.update({ where: { id: done.id }, data: { plan: old } });
    const shown = await ok<EconomyJob>(service.request('GET', `${JOBS}/${done.id}`));
    expect(shown.plan).toMatchObject({ strategy: 'paper', strategy_reason: null, probe_labels: [], prediction: null });
    await ok(service.request('POST', `${JOBS}/${done.id}/budget`, { max_prompt_evaluations: 20 }));
    const further = await service.finished(done.id);
    expect(further).toMatchObject({ status: 'succeeded', progress: { generation: 4 } });
    expect(further.budget.prompt_evaluations.used).toBe(20);
  });
});

describe('a file of one image a class', () => {
  it('trains', async () => {
    const id = (await ok<{ id: string }>(service.upload(toJsonl(await exampleImages(CLASSES, 1))))).id;
    const { job: done } = await runEconomyJob(service, economyJob(id, { budget: { max_image_queries: 2 * CLASSES } }));
    expect(done).toMatchObject({ status: 'succeeded', progress: { generation: 2 } });
  });
});

async function providerOf(): Promise<{ id: string }> {
  return (await ok<{ data: { id: string }[] }>(service.request('GET', '/v1/providers'))).data[0];
}
