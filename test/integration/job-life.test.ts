import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, beforeAll, describe, expect, it } from 'vitest';
import {
  createJob,
  errorOf,
  exampleImages,
  exportAdapter,
  ok,
  quickJob,
  UNDER_WAY,
  uploadImages,
} from '../helpers/api.js';
import { type JobAnswer, type TestService, testService } from '../helpers/service.js';
import { killTraining } from '../helpers/training-host.js';

/** Pausing, resuming, budgets, deadlines, limits and providers that fail, through the HTTP API. */

let service: TestService;
let file: string;
let providerId: string;
let settings: Record<string, unknown>;

beforeAll(async () => {
  service = await testService({ CRAFT_UPKEEP_SECONDS: '1', CRAFT_CHECKPOINT_INTERVAL: '1' });
  file = await uploadImages(service, await exampleImages(3, 4));
  const { data } = await ok<{ data: { id: string; settings: Record<string, unknown> }[] }>(
    service.request('GET', '/v1/providers'),
  );
  [{ id: providerId, settings }] = data;
  await patchProvider({ limits: { prompts_per_request: 1, concurrency: 2 } });
});

afterEach(() => service.provider.misbehaviour.configure({}));

function patchProvider(patch: object) {
  return ok(service.request('PATCH', `/v1/providers/${providerId}`, patch));
}

function post(job: { id: string }, action: string, body?: object): Promise<JobAnswer> {
  return ok(service.request('POST', `/v1/fine_tuning/jobs/${job.id}/${action}`, body));
}

function get({ id }: { id: string }): Promise<JobAnswer> {
  return ok(service.request('GET', `/v1/fine_tuning/jobs/${id}`));
}

/** One generation is 4 candidates and the centre: 5 prompt evaluations, 5 calls. */
const GENERATION = 5;

function job(generations: number, rest: Record<string, unknown> = {}) {
  return quickJob(file, { budget: { max_prompt_evaluations: GENERATION * generations } }, rest);
}

/** Creates a job whose calls after so many generations are held, until the provider is let go. */
async function createHeld(request: unknown, generations: number): Promise<JobAnswer> {
  service.provider.misbehaviour.configure({ hold_after: GENERATION * generations });
  const created = await createJob(service, request);
  return until(({ progress }) => progress.generation >= generations, created);
}

const letGo = () => service.provider.misbehaviour.configure({});

/** Waits until nobody works on the job any more. */
async function untilLeft({ id }: JobAnswer): Promise<void> {
  while (service.working().includes(id)) await sleep(20);
}

async function until(condition: (job: JobAnswer) => boolean, of: { id: string }): Promise<JobAnswer> {
  for (;;) {
    const now = await get(of);
    if (condition(now)) return now;
    await sleep(30);
  }
}

const adapterOf = async ({ fine_tuned_model: id }: JobAnswer) => Buffer.from(await exportAdapter(service, id));

async function messagesOf({ id }: { id: string }): Promise<string[]> {
  const page = await ok<{ data: { message: string }[] }>(
    service.request('GET', `/v1/fine_tuning/jobs/${id}/events?limit=1000`),
  );
  return page.data.map(({ message }) => message).reverse();
}

describe('pause and resume', () => {
  it('stop a running job between two calls and let it go on to the same adapter', async () => {
    const undisturbed = await service.finished((await createJob(service, job(6))).id);
    const created = await createHeld(job(6), 2);
    expect(await post(created, 'pause')).toMatchObject({ status: 'paused', pause_reason: 'user' });
    letGo();
    // What was in flight is awaited and settled.
    const paused = await until(({ budget }) => budget.requests.reserved === 0, created);
    await sleep(300);
    expect((await get(created)).budget).toEqual(paused.budget);
    expect(await post(created, 'resume')).toMatchObject({ status: UNDER_WAY, pause_reason: null, pause_message: null });
    const done = await service.finished(created.id);
    expect(done).toMatchObject({ status: 'succeeded', stop_reason: null });
    expect(done.budget.prompt_evaluations).toMatchObject({ used: 6 * GENERATION, reserved: 0 });
    expect(await adapterOf(done)).toEqual(await adapterOf(undisturbed));
    expect(await messagesOf(done)).toEqual(expect.arrayContaining(['Paused: by request.', 'Resumed by request.']));
  });

  it('get over a training state that was damaged while the job was paused', async () => {
    const undisturbed = await service.finished((await createJob(service, job(5))).id);
    const created = await createHeld(job(5), 3);
    await post(created, 'pause');
    letGo();
    await untilLeft(created);
    const { trainingState } = service.core.database;
    const states = await trainingState.findMany({ where: { jobId: created.id }, orderBy: { generation: 'desc' } });
    // The newest, and the one before it.
    expect(states).toHaveLength(2);
    const damaged = Uint8Array.from(states[0].state);
    damaged[damaged.length >> 1] ^= 1;
    const { jobId, generation } = states[0];
    await trainingState.update({ where: { jobId_generation: { jobId, generation } }, data: { state: damaged } });
    await post(created, 'resume');
    const done = await service.finished(created.id);
    expect(done).toMatchObject({ status: 'succeeded', stop_reason: null });
    // The generation that was lost with it is computed again from its stored answers.
    expect(done.budget.prompt_evaluations.used).toBe(5 * GENERATION);
    expect(await adapterOf(done)).toEqual(await adapterOf(undisturbed));
  });

  it('let a job go on with the backend that it began with, whatever a new one would get', async () => {
    const created = await createHeld(job(5), 2);
    await post(created, 'pause');
    letGo();
    await untilLeft(created);
    expect((await get(created)).compute).toBe('simd');
    await service.core.database.job.update({ where: { id: created.id }, data: { compute: 'wasm' } });
    await post(created, 'resume');
    const done = await service.finished(created.id);
    expect(done).toMatchObject({ status: 'succeeded', compute: 'wasm' });
    expect((await messagesOf(done)).filter((message) => message.includes('instead of'))).toEqual([]);
  });

  it('answer 409 with the current state where it does not allow them', async () => {
    const done = await service.finished((await createJob(service, job(1))).id);
    for (const action of ['pause', 'resume', 'cancel']) {
      const response = await service.request('POST', `/v1/fine_tuning/jobs/${done.id}/${action}`);
      const error = await errorOf(response, 409);
      expect(error).toMatchObject({ code: 'illegal_job_state', param: 'fine_tuning_job_id' });
      expect(error.message).toContain('is succeeded');
    }
    const unknown = await service.request('POST', '/v1/fine_tuning/jobs/ftjob-none/pause');
    expect((await errorOf(unknown, 404)).code).toBe('job_not_found');
  });

  it('do not hinder a paused job from being cancelled', async () => {
    const created = await createHeld(job(6), 0);
    await post(created, 'pause');
    expect((await errorOf(await service.request('DELETE', `/v1/files/${file}`), 409)).code).toBe('file_in_use');
    expect(await post(created, 'cancel')).toMatchObject({ status: 'cancelled', pause_reason: null });
  });
});

describe('a raised budget', () => {
  it('lets a job that met its limit go on, to the adapter of an undisturbed one', async () => {
    const undisturbed = await service.finished((await createJob(service, job(4))).id);
    // Two calls of the third generation are lost: without their key's second chance they would have to be paid for again.
    await patchProvider({ settings: { ...settings, idempotency: null } });
    service.provider.misbehaviour.configure({ fail_next: [{ kind: 'drop_after', count: 2 }] });
    const short = await service.finished((await createJob(service, job(4))).id);
    await patchProvider({ settings });
    expect(short).toMatchObject({ status: 'succeeded', stop_reason: 'budget_exhausted', progress: { generation: 3 } });
    const early = short.fine_tuned_model;

    const raised = await post(short, 'budget', { max_prompt_evaluations: 4 * GENERATION + 2, extend: false });
    expect(raised).toMatchObject({ status: UNDER_WAY, stop_reason: null, finished_at: null, fine_tuned_model: early });
    const done = await service.finished(short.id);
    expect(done).toMatchObject({ status: 'succeeded', stop_reason: null, progress: { generation: 4, generations: 4 } });
    expect(done.fine_tuned_model).not.toBe(early);
    expect(done.budget.prompt_evaluations.used).toBe(4 * GENERATION + 2);
    expect(await adapterOf(done)).toEqual(await adapterOf(undisturbed));
    // The adapter that it had stays usable.
    expect((await service.request('GET', `/v1/adapters/${early}`)).status).toBe(200);
  });

  it('extends the plan of a job at its end, of a running one and of a paused one', async () => {
    const done = await service.finished((await createJob(service, job(2))).id);
    await post(done, 'budget', { max_prompt_evaluations: GENERATION * 4 });
    expect(await service.finished(done.id)).toMatchObject({ progress: { generation: 4, generations: 4, fraction: 1 } });

    const running = await createHeld(job(3), 1);
    expect(await post(running, 'budget', { max_prompt_evaluations: GENERATION * 5 })).toMatchObject({
      progress: { generations: 5 },
    });
    letGo();
    expect(await service.finished(running.id)).toMatchObject({ status: 'succeeded', progress: { generation: 5 } });

    const paused = await createHeld(job(2), 0);
    await post(paused, 'pause');
    letGo();
    // Whoever paused it decides when it goes on.
    expect(await post(paused, 'budget', { max_prompt_evaluations: GENERATION * 3 })).toMatchObject({
      status: 'paused',
    });
    await post(paused, 'resume');
    expect(await service.finished(paused.id)).toMatchObject({ status: 'succeeded', progress: { generation: 3 } });
  });

  it('is refused where it changes nothing, is less than what is spent, or the job is over', async () => {
    const done = await service.finished((await createJob(service, job(2))).id);
    const path = `/v1/fine_tuning/jobs/${done.id}/budget`;
    const refused = async (body: object, status: number) => errorOf(await service.request('POST', path, body), status);
    expect(await refused({}, 400)).toMatchObject({ code: 'invalid_parameter' });
    expect(await refused({ max_prompt_evaluations: GENERATION * 2 - 1 }, 400)).toMatchObject({
      code: 'budget_below_spent',
      param: 'max_prompt_evaluations',
      message: `${GENERATION * 2} of max_prompt_evaluations are spent or reserved already. Set it to that or more.`,
    });
    expect(await refused({ max_prompt_evaluations: GENERATION * 3 - 1 }, 409)).toMatchObject({
      code: 'budget_pays_for_nothing_more',
    });
    expect(await refused({ max_images: 1 }, 400)).toMatchObject({ code: 'unknown_parameter', param: 'max_images' });
    expect(await refused({ max_prompt_evaluations: 100, deadline: 1 }, 409)).toMatchObject({ code: 'deadline_passed' });
    // Nothing of it was kept.
    expect((await get(done)).budget.prompt_evaluations.limit).toBe(GENERATION * 2);

    await service.core.database.trainingState.deleteMany({ where: { jobId: done.id } });
    await service.core.database.storedAnswer.deleteMany({ where: { jobId: done.id } });
    expect(await refused({ max_prompt_evaluations: GENERATION * 4 }, 409)).toMatchObject({
      code: 'training_state_gone',
    });
    const cancelled = await createHeld(job(2), 0);
    await post(cancelled, 'cancel');
    const response = await service.request('POST', `/v1/fine_tuning/jobs/${cancelled.id}/budget`, { max_requests: 9 });
    expect((await errorOf(response, 409)).code).toBe('illegal_job_state');
  });

  it('brings a job back that could not complete its first generation', async () => {
    await patchProvider({ settings: { ...settings, idempotency: null } });
    service.provider.misbehaviour.configure({ fail_next: [{ kind: 'drop_after', count: 2 }] });
    const short = await service.finished((await createJob(service, job(1))).id, 'paused');
    await patchProvider({ settings });
    expect(short).toMatchObject({ status: 'paused', pause_reason: 'budget_exhausted', fine_tuned_model: null });
    await post(short, 'budget', { max_prompt_evaluations: GENERATION + 2 });
    const done = await service.finished(short.id);
    expect(done).toMatchObject({ status: 'succeeded', progress: { generation: 1 } });
    // What was answered before is not paid for again.
    expect(done.budget.prompt_evaluations.used).toBe(GENERATION + 2);
  });
});

describe('a deadline', () => {
  const inSeconds = (seconds: number) => Math.ceil(Date.now() / 1000) + seconds;
  const passed = (seconds: number) => sleep(seconds * 1000 - Date.now() + 50);

  it('ends a job with what it has', async () => {
    const created = await createHeld(job(400), 1);
    const deadline = inSeconds(2);
    expect(await post(created, 'budget', { deadline, extend: false })).toMatchObject({ deadline });
    await passed(deadline);
    letGo();
    const done = await service.finished(created.id);
    expect(done).toMatchObject({ status: 'succeeded', stop_reason: 'deadline' });
    expect(done.progress.generation).toBeLessThan(400);
    // It may go on with a later one, or none.
    service.provider.misbehaviour.configure({ hold_after: 0 });
    expect((await post(done, 'budget', { deadline: null, extend: false })).status).toEqual(UNDER_WAY);
    await post(done, 'cancel');
  });

  it('ends a paused job, too', async () => {
    const created = await createHeld(job(400), 1);
    await post(created, 'pause');
    letGo();
    await post(created, 'budget', { deadline: inSeconds(2), extend: false });
    const done = await until(({ status }) => status === 'succeeded', created);
    expect(done.stop_reason).toBe('deadline');
  });

  it('ends a job with its last whole generation where a process was lost inside the next one', async () => {
    const { reservation } = service.core.database;
    // All of two generations but the last call, which asks about the centre.
    service.provider.misbehaviour.configure({ hold_after: 2 * GENERATION - 1 });
    const created = await createJob(service, job(400));
    const centre = { accountId: created.id, generation: 2, purpose: 'centre', state: 'reserved' };
    while ((await reservation.count({ where: centre })) === 0) await sleep(10);
    const deadline = inSeconds(2);
    await post(created, 'budget', { deadline, extend: false });
    await passed(deadline);
    killTraining();
    letGo();
    const { progress } = await get(created);
    const done = await service.finished(created.id);
    expect(done).toMatchObject({ status: 'succeeded', stop_reason: 'deadline' });
    expect(done.progress.generation).toBe(progress.generation);
    expect(done.metrics.current).toMatchObject({ generation: progress.generation });
  });

  it('fails a job that has nothing by then, and is refused when it lies in the past', async () => {
    const deadline = inSeconds(2);
    const created = await createHeld(job(2, { deadline }), 0);
    await passed(deadline);
    letGo();
    const done = await service.finished(created.id);
    expect(done).toMatchObject({ status: 'failed', error: { code: 'deadline_passed', param: 'deadline' } });
    const inMilliseconds = await service.request('POST', '/v1/fine_tuning/jobs', job(1, { deadline: Date.now() }));
    expect(await errorOf(inMilliseconds, 400)).toMatchObject({ code: 'invalid_parameter', param: 'deadline' });
    const past = await service.request('POST', '/v1/fine_tuning/jobs', job(1, { deadline: 1000 }));
    expect(await errorOf(past, 400)).toMatchObject({ code: 'deadline_passed', param: 'deadline' });
  });
});

describe('a provider that fails', () => {
  it('pauses a job after its patience, and the job resumes by itself when the provider answers', async () => {
    service.provider.misbehaviour.configure({ error_rate: { '503': 1 } });
    const created = await createJob(service, job(3, { provider_patience_seconds: 2 }));
    const paused = await service.finished(created.id, 'paused');
    expect(paused).toMatchObject({ status: 'paused', pause_reason: 'provider_unavailable' });
    expect(paused.pause_message).toMatch(/answered 503.*goes on by itself/);
    // The circuit opened: it did not go on calling at full size.
    expect(service.provider.misbehaviour.status().committed['503']).toBeLessThan(12);
    await sleep(2500);
    expect((await get(created)).status).toBe('paused');
    service.provider.misbehaviour.configure({});
    const done = await until(({ status }) => status === 'succeeded', created);
    expect(done).toMatchObject({ stop_reason: 'budget_exhausted', pause_reason: null });
    expect(await messagesOf(created)).toContain('Resumed: the provider answers again.');
    // The probe that succeeded is one query, counted on the job.
    const rows = await service.core.database.reservation.findMany({
      where: { accountId: created.id, purpose: 'probe', state: 'settled' },
    });
    expect(rows.map(({ imageQueries, promptEvaluations }) => [imageQueries, promptEvaluations])).toEqual([[1n, 1n]]);
    expect(done.budget.prompt_evaluations.used).toBe(2 * GENERATION + 1);
  });

  it('does not leave a job paused whose probe succeeded in a process that was lost before it woke the job', async () => {
    service.provider.misbehaviour.configure({ error_rate: { '503': 1 } });
    const created = await createJob(service, job(2, { provider_patience_seconds: 1 }));
    await service.finished(created.id, 'paused');
    service.provider.misbehaviour.configure({});
    await service.core.database.provider.update({
      where: { id: providerId },
      data: { circuitProbeAt: null, circuitFailures: 0 },
    });
    const done = await until(({ status }) => status === 'succeeded', created);
    expect(done.pause_reason).toBeNull();
  });

  it('does not pay without end for answers that are of no use', async () => {
    await patchProvider({ limits: { concurrency: 1 } });
    service.provider.misbehaviour.configure({ fail_next: [{ kind: 'malformed', count: 3 }] });
    const created = await createJob(service, job(4));
    const paused = await service.finished(created.id, 'paused');
    await patchProvider({ limits: { concurrency: 2 } });
    expect(paused).toMatchObject({ status: 'paused', pause_reason: 'provider_refused' });
    expect(paused.pause_message).toContain('/resume');
    // Each was a purchase of its own: the same one would have brought the same answer.
    expect(paused.budget.requests.used).toBe(3);
    await post(created, 'resume');
    expect((await service.finished(created.id)).status).toBe('succeeded');
  });

  it('pauses a job whose provider asks for more patience than there is', async () => {
    service.provider.misbehaviour.configure({ fail_next: [{ kind: '429', retry_after_s: 3600, count: 1 }] });
    const created = await createJob(service, job(2));
    // It goes on as soon as a probe is answered, so that nobody may see it paused.
    await until(({ status }) => status === 'succeeded', created);
    const paused = { accountId: created.id, purpose: 'probe', state: 'settled' };
    expect(await service.core.database.reservation.count({ where: paused })).toBe(1);
    expect(await messagesOf(created)).toContainEqual(expect.stringMatching(/^Paused: .*429/));
  });

  it('pauses a job that it refuses, until somebody has mended that', async () => {
    const { database } = service.core;
    const { credentials } = await database.provider.findUniqueOrThrow({ where: { id: providerId } });
    await database.provider.update({ where: { id: providerId }, data: { credentials: null, updatedAt: new Date() } });
    const created = await createJob(service, job(2));
    const paused = await service.finished(created.id, 'paused');
    expect(paused).toMatchObject({ pause_reason: 'provider_refused' });
    expect(paused.pause_message).toMatch(/refused our credentials.*\/resume/);
    // Nobody but its user knows when it is mended.
    await sleep(1500);
    expect((await get(created)).status).toBe('paused');
    await database.provider.update({ where: { id: providerId }, data: { credentials, updatedAt: new Date() } });
    await post(created, 'resume');
    expect(await service.finished(created.id)).toMatchObject({ status: 'succeeded', stop_reason: null });
  });
});

describe('limits that jobs share', () => {
  it('pause a job at the limit of its provider, and let it go on when there is room', async () => {
    const { budget } = await ok<{ budget: { total: { requests: { used: number } } } }>(
      service.request('GET', `/v1/providers/${providerId}`),
    );
    const { used } = budget.total.requests;
    await patchProvider({ budget: { total: { max_requests: used + 7 } } });
    const created = await createJob(service, job(3));
    const paused = await service.finished(created.id, 'paused');
    expect(paused).toMatchObject({ status: 'paused', pause_reason: 'provider_limit' });
    expect(paused.pause_message).toContain('budget.total');
    expect(paused.budget.requests.used).toBe(7);
    await sleep(1500);
    expect((await get(created)).status).toBe('paused');
    await patchProvider({ budget: { total: { max_requests: null } } });
    const done = await until(({ status }) => status === 'succeeded', created);
    expect(done.budget.requests.used).toBe(3 * GENERATION);
  });

  it.each([
    ['provider_daily_limit', 'budget.daily'],
    ['project_limit', '/v1/projects/'],
  ])('say which of them a job waits for: %s', async (reason, remedy) => {
    const limit = async (more: number | null) => {
      if (reason === 'project_limit') {
        const path = '/v1/projects/proj-default';
        const project = await ok<JobAnswer>(service.request('GET', path));
        const max_image_queries = more === null ? null : project.budget.image_queries.used + more;
        await ok(service.request('PATCH', path, { budget: { max_image_queries } }));
        return;
      }
      const provider = await ok<{ budget: { daily: JobAnswer['budget'] } }>(
        service.request('GET', `/v1/providers/${providerId}`),
      );
      const max_image_queries = more === null ? null : provider.budget.daily.image_queries.used + more;
      await patchProvider({ budget: { daily: { max_image_queries } } });
    };
    await limit(100);
    const created = await createJob(service, job(3));
    const paused = await service.finished(created.id, 'paused');
    expect(paused).toMatchObject({ status: 'paused', pause_reason: reason });
    expect(paused.pause_message).toContain(remedy);
    expect(paused.budget.image_queries.used).toBeLessThanOrEqual(100);
    await limit(null);
    expect((await until(({ status }) => status === 'succeeded', created)).stop_reason).toBeNull();
  });

  it('refuse a prediction and a job that cannot be paid for', async () => {
    const done = await service.finished((await createJob(service, job(1))).id);
    const path = '/v1/projects/proj-default';
    await ok(service.request('PATCH', path, { budget: { max_image_queries: 0 } }));
    const [{ dataUri }] = (await exampleImages(1, 1)).map((image) => ({
      dataUri: `data:image/png;base64,${Buffer.from(image.bytes).toString('base64')}`,
    }));
    const prediction = await service.request('POST', `/v1/adapters/${done.fine_tuned_model}/predict`, {
      images: [dataUri],
    });
    expect(await errorOf(prediction, 402)).toMatchObject({ code: 'project_limit_reached', param: 'max_image_queries' });
    const creation = await service.request('POST', '/v1/fine_tuning/jobs', job(1));
    expect(await errorOf(creation, 402)).toMatchObject({ code: 'project_limit_reached', param: 'max_image_queries' });
    await ok(service.request('PATCH', path, { budget: { max_image_queries: null } }));
    const none = await service.request('GET', '/v1/projects/proj-none');
    expect((await errorOf(none, 404)).code).toBe('project_not_found');
  });
});

describe('the ledger of a job', () => {
  it('lists every call, adds up to its budget, and comes as CSV', async () => {
    service.provider.misbehaviour.configure({ fail_next: [{ kind: '429', count: 2, retry_after_s: 0 }] });
    const done = await service.finished((await createJob(service, job(2))).id);
    const path = `/v1/fine_tuning/jobs/${done.id}/ledger`;
    type Entry = { id: string; state: string; attempt: number; idempotency_key: string; counted: JobAnswer['budget'] };
    type Totals = Record<string, { entries: number; image_queries: number; requests: number }>;
    const entries: Entry[] = [];
    for (let after = '', more = true; more; ) {
      const page = await ok<{ data: Entry[]; has_more: boolean; last_id: string; totals: Totals }>(
        service.request('GET', `${path}?limit=3${after}`),
      );
      entries.push(...page.data);
      expect(page.totals.settled.image_queries + page.totals.unknown.image_queries).toBe(
        done.budget.image_queries.used,
      );
      more = page.has_more;
      after = `&after=${page.last_id}`;
    }
    expect(entries).toHaveLength(2 * GENERATION);
    expect(new Set(entries.map(({ id }) => id)).size).toBe(entries.length);
    expect(entries.every(({ idempotency_key: key }) => key.startsWith(`${done.id}/`))).toBe(true);
    // A refused attempt and the one that was answered are one purchase.
    expect(entries.filter(({ attempt }) => attempt > 1)).toHaveLength(2);

    const csv = await service.request('GET', path, undefined, { accept: 'text/csv' });
    expect(csv.headers.get('content-type')).toContain('text/csv');
    const lines = (await csv.text()).trimEnd().split('\r\n');
    expect(lines).toHaveLength(entries.length + 1);
    const header = lines[0].split(',');
    expect(header.slice(-3)).toEqual(['input_tokens', 'output_tokens', 'text_embeddings']);
    for (const line of lines.slice(1)) expect(line.split(',').slice(header.length - 3)).toEqual(['0', '0', '0']);
    const column = header.indexOf('counted_image_queries');
    const sum = lines.slice(1).reduce((total, line) => total + Number(line.split(',')[column]), 0);
    expect(sum).toBe(done.budget.image_queries.used);
    expect((await errorOf(await service.request('GET', `${path}?after=x`), 400)).code).toBe('invalid_cursor');
    const missing = await service.request('GET', '/v1/fine_tuning/jobs/ftjob-none/ledger');
    expect((await errorOf(missing, 404)).code).toBe('job_not_found');
  });
});
