import { beforeAll, describe, expect, it } from 'vitest';
import { readExample, toJsonl } from '../../src/demo/example-data.js';
import { readSafetensors } from '../../src/formats/safetensors.js';
import { until } from '../helpers/api.js';
import { type JobAnswer, type TestService, testService } from '../helpers/service.js';
import { killedWhileRunning, killTraining } from '../helpers/training-host.js';

let service: TestService;
let file: string;
const CONCURRENCY = 2;

beforeAll(async () => {
  // Without idempotency keys, so that what a kill leaves unknown shows; with them: api-jobs.test.ts, chaos.test.ts.
  // A resumed job goes on from stored answers alone; from saved states: job-life.test.ts and chaos.test.ts.
  service = await testService({ CRAFT_CHECKPOINT_INTERVAL: '10' }, { idempotency: false });
  const example = await readExample('fluent-contrast-subgroups', 'seed-1');
  const some = example.train.filter(({ label }) => example.classes.slice(0, 4).includes(label));
  file = ((await (await service.upload(toJsonl(some))).json()) as { id: string }).id;
  const [{ id }] = ((await (await service.request('GET', '/v1/providers')).json()) as { data: { id: string }[] }).data;
  // Many small calls, so that a kill falls between the calls of a generation.
  await service.request('PATCH', `/v1/providers/${id}`, {
    limits: { prompts_per_request: 2, images_per_request: 40, concurrency: CONCURRENCY },
  });
});

/** Calls of a generation: 8 candidates by twos and the centre, each on the images in two parts. */
const CALLS = 10;
/** 6 generations, with room for the calls whose outcome three kills leave unknown. */
const BUDGET = { max_requests: 6 * CALLS + 3 * CONCURRENCY };

async function create(budget: Record<string, number> = BUDGET): Promise<{ id: string }> {
  const created = await service.request('POST', '/v1/fine_tuning/jobs', {
    model: 'emoji-clip',
    training_file: file,
    seed: 5,
    method: {
      type: 'craft',
      craft: {
        strategy: 'paper',
        hyperparameters: { population_size: 8, intrinsic_dimension: 16 },
        budget,
      },
    },
  });
  return (await created.json()) as JobAnswer;
}

async function tensorsOf(job: JobAnswer) {
  const answer = await service.request('GET', `/v1/adapters/${job.fine_tuned_model}/export`);
  return readSafetensors(new Uint8Array(await answer.arrayBuffer())).tensors;
}

describe('a job whose training process is killed', () => {
  it('goes on to the same adapter and pays for no answer twice', async () => {
    const undisturbed = await service.finished((await create()).id);
    expect(undisturbed).toMatchObject({ status: 'succeeded', error: null });

    // Inside the first, the third and the fifth generation.
    const [{ id: jobId }] = await killedWhileRunning(service, [3, 24, 45], async () => [await create()]);
    const disturbed = await service.finished(jobId);

    expect(disturbed).toMatchObject({ status: 'succeeded', error: null });
    const rows = await service.core.database.reservation.findMany({ where: { accountId: jobId } });
    const paid = rows
      .filter(({ state }) => state === 'settled')
      .map(({ generation, chunk }) => `${generation}/${chunk}`);
    expect(new Set(paid).size).toBe(paid.length);
    expect(paid).toHaveLength(6 * CALLS);
    // What stays unknown was in flight when a process was killed.
    const unknown = rows.filter(({ state }) => state === 'unknown');
    expect(unknown.length).toBeGreaterThan(0);
    expect(unknown.length).toBeLessThanOrEqual(3 * CONCURRENCY);
    expect(rows).toHaveLength(paid.length + unknown.length);
    expect(await tensorsOf(disturbed)).toEqual(await tensorsOf(undisturbed));
  });
});

describe('what is left open', () => {
  it('by a killed process counts as used once its job was cancelled', async () => {
    const [{ id: jobId }] = await killedWhileRunning(service, [2], async () => [await create()]);
    await service.request('POST', `/v1/fine_tuning/jobs/${jobId}/cancel`);
    await until(async () => (await service.core.ledger.balance(jobId)).requests.reserved === 0);
    const states = await service.core.database.reservation.groupBy({
      by: ['state'],
      where: { accountId: jobId },
      _count: true,
    });
    expect(states.map(({ state }) => state).sort()).toEqual(['settled', 'unknown']);
    expect(await service.core.database.storedAnswer.count({ where: { jobId } })).toBe(0);
  });

  it('by a process that nobody follows counts as used after a while', async () => {
    const { ledger, database } = service.core;
    const { accountId, providerId } = await database.reservation.findFirstOrThrow();
    const before = (await ledger.balance(accountId)).requests;
    await database.ledgerAccount.update({
      where: { id: accountId },
      data: { requestsReserved: 1, entriesReserved: 1 },
    });
    const lost = await database.reservation.create({
      data: {
        ...{ accountId, providerId, accounts: [accountId], purchaseKey: 'lost', attempt: 1, worker: 'gone' },
        ...{ purpose: 'predict', state: 'reserved' },
        ...{ promptEvaluations: 0, imageQueries: 0, requests: 1, costMicroUsd: 0 },
        attemptedAt: new Date(Date.now() - 3_700_000),
      },
    });
    expect(await ledger.leaveUnknownOlderThan(120)).toBe(0);
    expect(await ledger.leaveUnknownOlderThan(60)).toBe(1);
    expect((await ledger.balance(accountId)).requests).toMatchObject({ used: before.used + 1, reserved: 0 });
    expect(await database.reservation.findUniqueOrThrow({ where: { id: lost.id } })).toMatchObject({
      state: 'unknown',
    });
  });
});

describe('a job at the end of its budget', () => {
  it('spends nothing on a generation that it cannot complete', async () => {
    service.provider.misbehaviour.configure({ fail_next: [{ kind: 'drop_after', count: 1 }] });
    const job = await service.finished((await create({ max_prompt_evaluations: 9 * 3 })).id);
    expect(job).toMatchObject({ status: 'succeeded', stop_reason: 'budget_exhausted', progress: { generation: 2 } });
    // Two generations, and the two candidates whose answer was lost.
    expect(job.budget.prompt_evaluations).toMatchObject({ used: 9 * 2 + 2, reserved: 0 });
  });
});

describe('a worker that stops', () => {
  it('hands back a job whose provider it is waiting for', async () => {
    service.provider.misbehaviour.configure({ fail_next: [{ kind: '429', retry_after_s: 60, count: 1 }] });
    const { id: jobId } = await create();
    const where = { accountId: jobId, state: 'released' };
    await until(async () => (await service.core.database.reservation.count({ where })) > 0);
    killTraining('SIGTERM');
    const job = await service.finished(jobId);
    expect(job).toMatchObject({ status: 'succeeded', progress: { generation: 6 } });
  });
});
