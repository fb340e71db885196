import { pino } from 'pino';
import { afterEach, beforeAll, describe, expect, it } from 'vitest';
import { JobControl } from '../../src/jobs/job-control.js';
import { JobPlanner } from '../../src/jobs/job-planner.js';
import { JobQueries } from '../../src/jobs/job-queries.js';
import { errorOf, exampleImages, ok, quickJob, UNDER_WAY, until, uploadImages } from '../helpers/api.js';
import {
  adapterBytes,
  createEconomyJob,
  type EconomyJob,
  economyJob,
  expectPaidOnce,
  messagesOf,
  predict,
  runEconomyJob,
} from '../helpers/economy-jobs.js';
import { type TestService, testService } from '../helpers/service.js';

/** Budgets that change before a job has asked anything, through the HTTP API. */

const JOBS = '/v1/fine_tuning/jobs';
/** Three classes of four images. */
const N = 12;

let service: TestService;
let file: string;

beforeAll(async () => {
  service = await testService({ CRAFT_WORKER_CONCURRENCY: '1', CRAFT_UPKEEP_SECONDS: '1' });
  file = await uploadImages(service, await exampleImages(3, 4));
});

afterEach(() => service.provider.misbehaviour.configure({}));

const job = (queries: number, craft: Record<string, unknown> = {}) =>
  economyJob(file, { budget: { max_image_queries: queries }, ...craft });
const get = ({ id }: { id: string }) => ok<EconomyJob>(service.request('GET', `${JOBS}/${id}`));
const post = ({ id }: { id: string }, action: string, body?: object) =>
  ok<EconomyJob>(service.request('POST', `${JOBS}/${id}/${action}`, body));
const refused = async ({ id }: { id: string }, body: object, status: number) =>
  errorOf(await service.request('POST', `${JOBS}/${id}/budget`, body), status);
const finished = async ({ id }: { id: string }, status?: string) => (await service.finished(id, status)) as EconomyJob;
const dryRun = (request: object) =>
  ok<Pick<EconomyJob, 'method' | 'plan'>>(service.request('POST', `${JOBS}?dry_run=true`, request));

/** Jobs that are created meanwhile stay queued: the only worker has another one. */
async function whileQueued<Result>(work: () => Promise<Result>): Promise<Result> {
  service.provider.misbehaviour.configure({ latency_ms: 150 });
  const other = await createEconomyJob(service, quickJob(file, { budget: { max_prompt_evaluations: 5000 } }));
  await until(async () => (await get(other)).budget.requests.used > 0);
  try {
    return await work();
  } finally {
    await post(other, 'cancel');
    service.provider.misbehaviour.configure({});
  }
}

/** It is planned as a new job with its budget is, trains to the same adapter, and pays for no more than that. */
async function expectAsNew(changed: EconomyJob, request: object): Promise<EconomyJob> {
  const { method, plan } = await dryRun(request);
  expect(changed.plan).toEqual(plan);
  expect(changed.method).toEqual(method);
  expect(changed.progress.generations).toBe(plan.generations);
  const done = await finished(changed);
  const { job: fresh } = await runEconomyJob(service, request);
  expect(done).toMatchObject({
    status: 'succeeded',
    stop_reason: fresh.stop_reason,
    compute: fresh.compute,
    progress: fresh.progress,
  });
  expect(done.budget).toEqual(fresh.budget);
  expect(await adapterBytes(service, done)).toEqual(await adapterBytes(service, fresh));
  await expectPaidOnce(service, done.id);
  return done;
}

describe('a job that ended with the untrained model', () => {
  it.each([
    { what: 'on all shots', craft: {}, queries: 8 * N },
    { what: 'on the shots that it was asked for', craft: { shots: 3 }, queries: 8 * N },
    { what: 'on fewer shots', craft: {}, queries: N - 1 },
    { what: 'in all transforms', craft: { prediction_queries: 8 }, queries: 16 * N },
    { what: 'with its validation images', craft: { validation_fraction: 0.25 }, queries: 2 * N },
  ])('begins anew, $what', async ({ craft, queries }) => {
    const { job: untrained } = await runEconomyJob(service, job(1, craft));
    expect(untrained).toMatchObject({ status: 'succeeded', plan: { generations: 0 } });
    const raised = await post(untrained, 'budget', { max_image_queries: queries });
    expect(raised).toMatchObject({
      status: UNDER_WAY,
      stop_reason: null,
      fine_tuned_model: untrained.fine_tuned_model,
    });
    const done = await expectAsNew(raised, job(queries, craft));
    expect(done.fine_tuned_model).not.toBe(untrained.fine_tuned_model);
    expect(await messagesOf(service, done.id)).toContainEqual(
      expect.stringMatching(
        new RegExp(
          `^The budget is now max_image_queries ${queries}\\. Nothing has been asked yet: planned anew\\. The plan,`,
        ),
      ),
    );
    // The adapter that it had stays usable.
    const { data } = await predict(service, untrained.fine_tuned_model, await exampleImages(1, 1, 'test'));
    expect(data).toHaveLength(1);
  });

  it('is refused a budget that leaves it untrained, with what one shot takes', async () => {
    const { job: untrained } = await runEconomyJob(service, job(1));
    const { code, message } = await refused(untrained, { max_image_queries: 2 }, 409);
    expect(code).toBe('budget_pays_for_nothing_more');
    expect(message).toContain('One shot of each class would take 3 of max_image_queries, but the budget is 2.');
    expect(await get(untrained)).toEqual(untrained);
  });

  it('has all limits planned with, those that stay and those that come', async () => {
    const budget = { max_requests: 100, max_image_queries: 1 };
    const { job: untrained } = await runEconomyJob(service, job(0, { budget }));
    const raised = await post(untrained, 'budget', { max_image_queries: 1000, max_cost_usd: 0.5 });
    await expectAsNew(raised, job(0, { budget: { ...budget, max_image_queries: 1000, max_cost_usd: 0.5 } }));
  });

  it('of an earlier version keeps its plan', async () => {
    const { job: untrained } = await runEconomyJob(service, job(1, { prediction_queries: 2 }));
    await service.core.database.$executeRaw`UPDATE jobs SET plan = plan - 'asked' WHERE id = ${untrained.id}`;
    const raised = await post(untrained, 'budget', { max_image_queries: 2 * N });
    expect(raised).toMatchObject({ plan: untrained.plan, method: untrained.method, progress: { generations: 2 } });
    // A worker may have gone on with it by then, and said so.
    expect(await messagesOf(service, untrained.id)).toContainEqual(
      expect.stringMatching(/^The budget is now max_image_queries .*1 of 2 transforms/s),
    );
    expect((await finished(raised)).budget.image_queries.used).toBe(2 * N);
  });
});

describe('a job that waits', () => {
  it('in the queue is planned anew, with more and with fewer shots', async () => {
    const [more, fewer] = await whileQueued(async () => {
      const three = await createEconomyJob(service, job(N - 1, { prediction_queries: 4 }));
      const four = await createEconomyJob(service, job(4 * N));
      expect(three).toMatchObject({ method: { craft: { shots: 3 } }, plan: { training_images: 9 } });
      const raised = await post(three, 'budget', { max_image_queries: 8 * N });
      expect(raised).toMatchObject({ status: 'queued', plan: { training_images: N, generations: 8 } });
      expect(raised.method.craft.shots).toBeUndefined();
      const lowered = await post(four, 'budget', { max_image_queries: N - 1 });
      expect(lowered).toMatchObject({ status: 'queued', method: { craft: { shots: 3 } }, plan: { generations: 1 } });
      return [raised, lowered];
    });
    await expectAsNew(more, job(8 * N, { prediction_queries: 4 }));
    await expectAsNew(fewer, job(N - 1));
  });

  it('for its user is planned anew, and goes on when it is resumed', async () => {
    const paused = await whileQueued(async () => {
      const created = await createEconomyJob(service, job(N - 1));
      await post(created, 'pause');
      await post(created, 'budget', { max_image_queries: 1 });
      const twice = await post(created, 'budget', { max_image_queries: 3 * N });
      expect(twice).toMatchObject({ status: 'paused', pause_reason: 'user', plan: { training_images: N } });
      return twice;
    });
    await expectAsNew(await post(paused, 'resume'), job(3 * N));
  });

  it('keeps its plan where only the deadline changes, or the plan is not to be extended', async () => {
    await whileQueued(async () => {
      const created = await createEconomyJob(service, job(N - 1));
      const same = await post(created, 'budget', { max_image_queries: 4 * N, extend: false });
      expect(same).toMatchObject({ plan: created.plan, method: created.method, progress: { generations: 1 } });
      const deadline = Math.ceil(Date.now() / 1000) + 600;
      expect(await post(created, 'budget', { deadline })).toMatchObject({ plan: created.plan, deadline });
      await post(created, 'cancel');
    });
  });

  it('of strategy paper has the schedule of its new budget, and is refused one that is too small', async () => {
    const request = (evaluations: number) => quickJob(file, { budget: { max_prompt_evaluations: evaluations } });
    const raised = await whileQueued(async () => {
      const created = await createEconomyJob(service, request(10));
      expect(await refused(created, { max_prompt_evaluations: 4 }, 400)).toMatchObject({
        code: 'budget_too_small',
        param: 'max_prompt_evaluations',
        message: expect.stringContaining('needs 5 of max_prompt_evaluations'),
      });
      expect(await get(created)).toEqual(created);
      return post(created, 'budget', { max_prompt_evaluations: 40 });
    });
    expect(raised).toMatchObject({ plan: { strategy: 'paper', generations: 8 } });
    await expectAsNew(raised, request(40));
  });

  it('is never worked on by two plans, whoever comes first', async () => {
    let anew = 0;
    const trial = async () => {
      const created = await whileQueued(() => createEconomyJob(service, job(N - 1)));
      const [lower, higher] = await Promise.all(
        [2 * N, 3 * N].map((queries) =>
          service.request('POST', `${JOBS}/${created.id}/budget`, { max_image_queries: queries }),
        ),
      );
      await ok(higher);
      // Refused where it comes second, and more is spent by then.
      if (lower.status !== 200) expect((await errorOf(lower, 400)).code).toBe('budget_below_spent');
      const done = await finished(created);
      const { used, limit } = done.budget.image_queries;
      const { training_images: images } = done.plan;
      expect(used).toBe(done.progress.generation * images);
      expect(used).toBeLessThanOrEqual(limit!);
      expect(done.method.craft.shots).toBe(images === N ? undefined : 3);
      if (images === N) anew++;
      await expectPaidOnce(service, created.id);
    };
    for (let trials = 0; trials < 8; trials++) await trial();
    expect(anew).toBeGreaterThan(0);
  });

  describe('and changes while its new plan is made', () => {
    /** @param meanwhile runs once a plan is made, each time */
    const controlWith = (meanwhile: (times: number) => Promise<unknown>) => {
      const { database, ledger, datasets, providers } = service.core;
      const planner = new JobPlanner(database, ledger, datasets, providers);
      let times = 0;
      const slow = {
        planAnew: async (...of: Parameters<JobPlanner['planAnew']>) => {
          const planned = await planner.planAnew(...of);
          await meanwhile(++times);
          return planned;
        },
      };
      const queue = { add: async () => {}, remove: async () => {}, has: async () => true };
      const queries = new JobQueries(database, ledger);
      const control = new JobControl(database, ledger, slow, queries, queue, pino({ level: 'silent' }));
      return { control, made: () => times };
    };
    const paused = () => whileQueued(async () => post(await createEconomyJob(service, job(N - 1)), 'pause'));

    it('keeps its plan where it began by that', async () => {
      const created = await paused();
      const { control } = controlWith(async () => finished(await post(created, 'resume')));
      await control.changeBudget(created.id, { limits: { imageQueries: 2 * N }, extend: true });
      const changed = await get(created);
      expect(changed).toMatchObject({ plan: created.plan, method: created.method, progress: { generations: 2 } });
      expect(await messagesOf(service, created.id)).toContainEqual(expect.stringContaining('3 shots of each class'));
    });

    it('is planned once more where its budget was changed', async () => {
      const created = await paused();
      const { control, made } = controlWith(async (times) => {
        if (times === 1) await post(created, 'budget', { max_image_queries: 4 * N });
      });
      await control.changeBudget(created.id, { limits: { requests: 100 }, extend: true });
      expect(made()).toBe(2);
      const budget = { max_image_queries: 4 * N, max_requests: 100 };
      await expectAsNew(await post(created, 'resume'), job(0, { budget }));
    });
  });
});

describe('a job that has asked', () => {
  it('keeps its shots and transforms, and says so', async () => {
    const { job: three } = await runEconomyJob(service, job(N - 1, { prediction_queries: 2 }));
    expect(three).toMatchObject({ plan: { training_images: 9 }, budget: { image_queries: { used: 9 } } });
    const kept = 'with (3 shots of each class, 1 of 2 transforms); only a new job';
    const { code, message } = await refused(three, { max_image_queries: 17 }, 409);
    expect(code).toBe('budget_pays_for_nothing_more');
    expect(message).toContain(kept);
    const raised = await post(three, 'budget', { max_image_queries: 4 * N });
    expect(raised).toMatchObject({ plan: three.plan, method: three.method, progress: { generations: 5 } });
    expect(await messagesOf(service, three.id)).toContainEqual(expect.stringContaining(kept));
    expect((await finished(raised)).budget.image_queries.used).toBe(5 * 9);
  });

  it('is told what a lowered budget pays for', async () => {
    service.provider.misbehaviour.configure({ hold_after: 2 });
    const created = await createEconomyJob(service, job(20 * N));
    await until(async () => (await get(created)).progress.generation >= 1);
    await post(created, 'budget', { max_image_queries: 15 * N });
    expect(await messagesOf(service, created.id)).toContain(
      'The budget is now max_image_queries 180; it pays for 15 of the 20 generations that are planned.',
    );
    service.provider.misbehaviour.configure({});
    const done = await finished(created);
    expect(done).toMatchObject({ status: 'succeeded', progress: { generation: 15, generations: 20 } });
    expect(done.budget.image_queries.used).toBe(15 * N);
  });
});
