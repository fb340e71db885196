import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, beforeAll, describe, expect, it } from 'vitest';
import { decodeAdapter } from '../../src/adapters/adapter-file.js';
import { QUERIED } from '../../src/views/transforms.js';
import { errorOf, exampleImages, ok, QUICK, served, until, uploadImages } from '../helpers/api.js';
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
import { killedWhileRunning } from '../helpers/training-host.js';

/** Kills, pauses, budgets, deadlines and providers that fail, while an economy job is under way. */

const JOBS = '/v1/fine_tuning/jobs';
const N = 12;
/** Calls of a generation. */
const CALLS = 3;

let service: TestService;
let file: string;
let providerId: string;
let settings: Record<string, unknown>;

beforeAll(async () => {
  service = await testService({ CRAFT_UPKEEP_SECONDS: '1' });
  file = await uploadImages(service, await exampleImages(3, 4));
  const { data } = await ok<{ data: { id: string; settings: Record<string, unknown> }[] }>(
    service.request('GET', '/v1/providers'),
  );
  [{ id: providerId, settings }] = data;
  await patchProvider({ limits: { images_per_request: N / CALLS, concurrency: 2 } });
});

afterEach(() => service.provider.misbehaviour.configure({}));

const patchProvider = (patch: object) => ok(service.request('PATCH', `/v1/providers/${providerId}`, patch));
const job = (generations: number, craft: Record<string, unknown> = {}, rest: Record<string, unknown> = {}) =>
  economyJob(file, { budget: { max_image_queries: generations * N }, ...craft }, rest);
const get = ({ id }: { id: string }) => ok<EconomyJob>(service.request('GET', `${JOBS}/${id}`));
const post = ({ id }: { id: string }, action: string, body?: object) =>
  ok<EconomyJob>(service.request('POST', `${JOBS}/${id}/${action}`, body));
const finished = async ({ id }: { id: string }, status?: string) => (await service.finished(id, status)) as EconomyJob;
const when = (condition: (job: EconomyJob) => boolean, of: { id: string }) =>
  until(async () => {
    const now = await get(of);
    return condition(now) && now;
  });

/** Creates a job whose calls after so many generations are held, until the provider is let go. */
async function createHeld(request: unknown, generations: number): Promise<EconomyJob> {
  service.provider.misbehaviour.configure({ hold_after: CALLS * generations });
  const created = await createEconomyJob(service, request);
  return when(({ progress }) => progress.generation >= generations, created);
}

const letGo = () => service.provider.misbehaviour.configure({});
const passed = (seconds: number) => sleep(seconds * 1000 - Date.now() + 50);

describe('an economy job whose training process is killed', () => {
  it.each([
    { what: 'at a provider that honours keys', idempotent: true, slack: 0 },
    { what: 'at one without them', idempotent: false, slack: 2 * 4 * (N / CALLS) },
  ])('goes on to the same adapter, $what', async ({ idempotent, slack }) => {
    if (!idempotent) await patchProvider({ settings: { ...settings, idempotency: null } });
    const V = 3;
    const craft = {
      budget: { max_image_queries: 4 * (N - V) + 2 * V + slack },
      validation_fraction: 0.25,
      prediction_queries: 2,
      views: 2,
    };
    const undisturbed = (await runEconomyJob(service, job(0, craft))).job;
    const before = await served(service);
    // Inside the first, second and last generation.
    const [created] = await killedWhileRunning(service, [1, 6, 13], async () => [
      await createEconomyJob(service, job(0, craft)),
    ]);
    const done = await finished(created);
    if (!idempotent) await patchProvider({ settings });
    expect(done).toMatchObject({ status: 'succeeded', error: null, progress: { generation: 4, generations: 4 } });
    expect(await adapterBytes(service, done)).toEqual(await adapterBytes(service, undisturbed));
    await expectPaidOnce(service, done.id);
    const spent = (await served(service)).image_queries - before.image_queries;
    const lost = await service.core.database.reservation.findMany({
      where: { accountId: done.id, state: 'unknown' },
    });
    if (idempotent) {
      expect(done.budget.image_queries.used).toBe(4 * (N - V) + 2 * V);
      expect(spent).toBe(done.budget.image_queries.used);
    } else {
      // What was in flight may have been served.
      const unknown = lost.reduce((sum, { imageQueries }) => sum + Number(imageQueries), 0);
      expect(done.budget.image_queries.used).toBe(4 * (N - V) + 2 * V + unknown);
      expect(spent).toBeLessThanOrEqual(done.budget.image_queries.used);
      expect(spent).toBeGreaterThanOrEqual(done.budget.image_queries.used - unknown);
    }
    const messages = await messagesOf(service, done.id);
    const told = messages.filter((message) => /^Generation \d+\//.test(message));
    expect(told.map((message) => message.split(':')[0])).toEqual([1, 2, 3, 4].map((step) => `Generation ${step}/4`));
  });
});

describe('pause, resume and cancel', () => {
  it('stop a job between two calls and let it go on to the same adapter', async () => {
    const undisturbed = (await runEconomyJob(service, job(4))).job;
    const created = await createHeld(job(4), 1);
    expect(await post(created, 'pause')).toMatchObject({ status: 'paused', pause_reason: 'user' });
    letGo();
    const paused = await when(({ budget }) => budget.requests.reserved === 0, created);
    await sleep(300);
    expect((await get(created)).budget).toEqual(paused.budget);
    await post(created, 'resume');
    const done = await finished(created);
    expect(done).toMatchObject({ status: 'succeeded', stop_reason: null });
    expect(done.budget.image_queries).toMatchObject({ used: 4 * N, reserved: 0 });
    expect(await adapterBytes(service, done)).toEqual(await adapterBytes(service, undisturbed));

    const another = await createHeld(job(4), 1);
    expect(await post(another, 'cancel')).toMatchObject({ status: 'cancelled', fine_tuned_model: null });
    letGo();
    await when(({ budget }) => budget.requests.reserved === 0, another);
    const raised = await service.request('POST', `${JOBS}/${another.id}/budget`, { max_image_queries: 10 * N });
    expect((await errorOf(raised, 409)).code).toBe('illegal_job_state');
  });
});

describe('a raised budget', () => {
  it('goes on with further views, pays for none twice, and ends at the most views', async () => {
    const whole = (await runEconomyJob(service, job(4))).job;
    const before = await served(service);
    const first = (await runEconomyJob(service, job(2, { views: 4 }))).job;
    expect(first).toMatchObject({ progress: { generation: 2 }, plan: { decided_by: 'max_image_queries' } });
    await post(first, 'budget', { max_image_queries: 3 * N + 1 });
    expect(await finished(first)).toMatchObject({ status: 'succeeded', progress: { generation: 3, generations: 3 } });
    // Far more than there are views.
    await post(first, 'budget', { max_image_queries: 100 * N });
    const last = await finished(first);
    expect(last).toMatchObject({ status: 'succeeded', progress: { generation: 4, generations: 4 } });
    expect(last.budget.image_queries.used).toBe(4 * N);
    expect((await served(service)).image_queries - before.image_queries).toBe(4 * N);
    await expectPaidOnce(service, first.id);
    const answers = await Promise.all(
      [whole, last].map(async ({ fine_tuned_model: id }) => predict(service, id, await exampleImages(3, 2, 'test'))),
    );
    expect(answers[1].data).toEqual(answers[0].data);
    const more = await service.request('POST', `${JOBS}/${first.id}/budget`, { max_image_queries: 200 * N });
    expect(await errorOf(more, 409)).toMatchObject({ code: 'plan_is_complete' });
    // The adapters on the way stay usable.
    expect((await predict(service, first.fine_tuned_model, await exampleImages(1, 1, 'test'))).data).toHaveLength(1);
  });

  it('lets a job begin whose budget paid for nothing', async () => {
    const rest = { validation_fraction: 0.25, checkpoint_selection: 'best_validation', views: 2 };
    const craft = { budget: { max_image_queries: 1 }, ...rest };
    const untrained = (await runEconomyJob(service, job(0, craft))).job;
    expect(untrained).toMatchObject({ status: 'succeeded', progress: { generation: 0, generations: 0 } });
    // The validation images are paid for, too.
    expect(untrained.plan.strategy_reason).toContain('and 3 validation images would take 6 of max_image_queries');
    const short = await service.request('POST', `${JOBS}/${untrained.id}/budget`, { max_image_queries: 5 });
    expect(await errorOf(short, 409)).toMatchObject({
      code: 'budget_pays_for_nothing_more',
      message: expect.stringContaining('would take 6 of max_image_queries, but the budget is 5.'),
    });
    await post(untrained, 'budget', { max_image_queries: 2 * N });
    const done = await finished(untrained);
    // 9 training images and 3 for validation, which are asked about once.
    expect(done).toMatchObject({ status: 'succeeded', progress: { generation: 2, generations: 2 } });
    expect(done.budget.image_queries.used).toBe(2 * 9 + 3);
    expect(done.fine_tuned_model).not.toBe(untrained.fine_tuned_model);
  });

  it('needs a further view in all transforms, and says so', async () => {
    const { job: done } = await runEconomyJob(service, job(2, { prediction_queries: 2 }));
    const short = await service.request('POST', `${JOBS}/${done.id}/budget`, { max_image_queries: 4 * N - 1 });
    expect(await errorOf(short, 409)).toMatchObject({
      code: 'budget_pays_for_nothing_more',
      message: expect.stringContaining(`max_image_queries ${2 * N},`),
    });
    expect(await post(done, 'budget', { max_image_queries: 4 * N })).toMatchObject({ progress: { generations: 4 } });
    expect((await finished(done)).budget.image_queries.used).toBe(4 * N);
  });

  it('of a job that met a plateau ends there again, and costs nothing', async () => {
    const full = await uploadImages(service, await exampleImages(2, 8));
    const request = economyJob(full, { budget: { max_image_queries: 32 * 16 } });
    const { job: done } = await runEconomyJob(service, request);
    expect(done.status).toBe('succeeded');
    expect(done.stop_reason).toBe('plateau');
    expect([8, 16]).toContain(done.progress.generation);
    await post(done, 'budget', { max_image_queries: 64 * 16 });
    const again = await finished(done);
    expect(again).toMatchObject({ status: 'succeeded', stop_reason: 'plateau', progress: done.progress });
    expect(again.budget.image_queries.used).toBe(done.budget.image_queries.used);
    expect(again.fine_tuned_model).toBe(done.fine_tuned_model);
  });
});

describe('a limit that others share', () => {
  it('refuses a job whose first view it does not pay for in all transforms', async () => {
    const { budget } = await ok<{ budget: { total: EconomyJob['budget'] } }>(
      service.request('GET', `/v1/providers/${providerId}`),
    );
    const limit = budget.total.image_queries.used + 4 * N - 1;
    await patchProvider({ budget: { total: { max_image_queries: limit } } });
    try {
      const refused = await service.request('POST', JOBS, job(4, { prediction_queries: 4 }));
      expect(await errorOf(refused, 402)).toMatchObject({ code: 'provider_limit_reached' });
      expect((await runEconomyJob(service, job(3))).job.status).toBe('succeeded');
    } finally {
      await patchProvider({ budget: { total: { max_image_queries: null } } });
    }
  });
});

describe('a deadline', () => {
  const inSeconds = (seconds: number) => Math.ceil(Date.now() / 1000) + seconds;

  it('ends a job with what is complete of its first view by then, and a later one lets it go on', async () => {
    const created = await createHeld(job(30, { prediction_queries: 8 }), 2);
    const deadline = inSeconds(2);
    await post(created, 'budget', { deadline, extend: false });
    await passed(deadline);
    letGo();
    const done = await finished(created);
    expect(done).toMatchObject({ status: 'succeeded', stop_reason: 'deadline' });
    const { generation } = done.progress;
    expect(generation).toBeGreaterThanOrEqual(2);
    expect(generation).toBeLessThan(8);
    const { usage } = await predict(service, done.fine_tuned_model, await exampleImages(1, 1, 'test'));
    // Until the first view is complete, the transforms that were asked about of all images.
    expect(usage.image_queries).toBe(generation);
    const { about } = decodeAdapter(await adapterBytes(service, done));
    expect(about.transforms).toEqual(QUERIED[8].slice(0, generation));
    const ending = (await messagesOf(service, done.id)).find((message) => message.includes('Training succeeded'));
    expect(ending).toContain(`asks about ${generation} of the 8 transforms that were planned: identity, blur`);
    // Generations told of the head on the first transform; the job and its adapter do of the adapter's own.
    const adapter = await ok<{ metrics: Record<string, number> }>(
      service.request('GET', `/v1/adapters/${done.fine_tuned_model}`),
    );
    expect(adapter.metrics).toMatchObject({ ...done.metrics.current, generation });
    expect(done.metrics.current?.head_loss).not.toBe(done.metrics.best?.head_loss);
    await post(done, 'budget', { deadline: null, max_image_queries: 16 * N });
    const later = await finished(done);
    expect(later.status).toBe('succeeded');
    expect(later.progress.generation).toBeGreaterThanOrEqual(16);
    expect(later.budget.image_queries.used).toBeLessThanOrEqual(16 * N);
    await expectPaidOnce(service, later.id);
  });

  it('before the first view leaves the untrained model', async () => {
    const deadline = inSeconds(2);
    const created = await createHeld(job(2, { prediction_queries: 2 }, { deadline }), 0);
    await passed(deadline);
    letGo();
    const done = await finished(created);
    expect(done).toMatchObject({ status: 'succeeded', stop_reason: 'deadline', progress: { generation: 0 } });
    const answer = await predict(service, done.fine_tuned_model, await exampleImages(1, 1, 'test'), {
      black_box: true,
    });
    expect(answer.data[0].predictions).toEqual(answer.data[0].black_box_predictions);
    expect(answer.usage.image_queries).toBe(1);
  });
});

describe('a provider that fails', () => {
  it('pauses a job after its patience; it resumes by itself and stays within its budget', async () => {
    service.provider.misbehaviour.configure({ error_rate: { '503': 1 } });
    const budget = { max_image_queries: 2 * N + 1 };
    const created = await createEconomyJob(service, job(0, { budget }, { provider_patience_seconds: 1 }));
    expect(await finished(created, 'paused')).toMatchObject({ status: 'paused', pause_reason: 'provider_unavailable' });
    service.provider.misbehaviour.configure({});
    const done = await when(({ status }) => status === 'succeeded', created);
    // The probe is a query of its own.
    expect(done).toMatchObject({ stop_reason: null, progress: { generation: 2 } });
    expect(done.budget.image_queries.used).toBe(2 * N + 1);
  });

  it('costs nothing where it bills nothing, and an answer that is lost is had again for its key', async () => {
    const before = await served(service);
    service.provider.misbehaviour.configure({
      // One more in a row would be followed by a probe, which is a query.
      fail_next: [{ kind: '429', retry_after_s: 0 }, { kind: 'drop_after' }],
    });
    const { job: done } = await runEconomyJob(service, job(3));
    expect(done).toMatchObject({ status: 'succeeded', stop_reason: null, progress: { generation: 3 } });
    expect(done.budget.image_queries).toMatchObject({ used: 3 * N, reserved: 0 });
    expect((await served(service)).image_queries - before.image_queries).toBe(3 * N);
  });

  it('does not cost a job the queries of a first view that its budget no longer completes', async () => {
    service.provider.misbehaviour.configure({ error_rate: { '503': 1 } });
    const created = await createEconomyJob(service, job(1, {}, { provider_patience_seconds: 1 }));
    await finished(created, 'paused');
    service.provider.misbehaviour.configure({});
    // The probe has taken the query that the view lacks now.
    const short = await when(({ pause_reason: reason }) => reason === 'budget_exhausted', created);
    expect(short).toMatchObject({ status: 'paused', fine_tuned_model: null, progress: { generation: 0 } });
    expect(short.pause_message).toContain('max_image_queries');
    await post(short, 'budget', { max_image_queries: N + 1 });
    const done = await finished(created);
    expect(done).toMatchObject({ status: 'succeeded', stop_reason: null, progress: { generation: 1 } });
    expect(done.budget.image_queries.used).toBe(N + 1);
  });

  it.each([
    ['economy', 'succeeded', 'deadline'],
    ['paper', 'failed', null],
  ])('does not keep a job of strategy %s from its deadline', async (strategy, status, reason) => {
    await patchProvider({ settings: { ...settings, idempotency: null } });
    service.provider.misbehaviour.configure({ fail_next: [{ kind: 'drop_after', count: 1 }] });
    const method =
      strategy === 'paper'
        ? { strategy, hyperparameters: QUICK, budget: { max_prompt_evaluations: 5 } }
        : { strategy, budget: { max_image_queries: N } };
    const created = await createEconomyJob(service, job(0, method));
    expect(await finished(created, 'paused')).toMatchObject({ pause_reason: 'budget_exhausted' });
    await patchProvider({ settings });
    await post(created, 'budget', { deadline: Math.ceil(Date.now() / 1000) + 2, extend: false });
    const done = await when((now) => now.status === 'succeeded' || now.status === 'failed', created);
    expect(done).toMatchObject({ status, stop_reason: reason });
    expect(done.error?.code).toBe(strategy === 'paper' ? 'deadline_passed' : undefined);
  });

  it('whose answers are lost for good leaves what was whole', async () => {
    await patchProvider({ settings: { ...settings, idempotency: null } });
    service.provider.misbehaviour.configure({ fail_next: [{ kind: 'drop_after', count: 1 }] });
    const { job: done } = await runEconomyJob(service, job(2));
    await patchProvider({ settings });
    expect(done).toMatchObject({ status: 'succeeded', stop_reason: 'budget_exhausted', progress: { generation: 1 } });
    expect(done.budget.image_queries.used).toBe(N + N / CALLS);
    // A call more is all that it lacked.
    await post(done, 'budget', { max_image_queries: 2 * N + N / CALLS });
    const whole = await finished(done);
    expect(whole).toMatchObject({ status: 'succeeded', stop_reason: null, progress: { generation: 2 } });
    expect(whole.budget.image_queries.used).toBe(2 * N + N / CALLS);
    const undisturbed = (await runEconomyJob(service, job(2))).job;
    expect(await adapterBytes(service, whole)).toEqual(await adapterBytes(service, undisturbed));
  });
});
