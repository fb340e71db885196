import { setTimeout as sleep } from 'node:timers/promises';
import { beforeAll, describe, expect, it } from 'vitest';
import {
  createJob,
  exampleImages,
  exportAdapter,
  misbehave,
  ok,
  quickJob,
  runJob,
  until,
  uploadImages,
} from '../helpers/api.js';
import { type JobAnswer, type TestService, testService } from '../helpers/service.js';
import { killedWhileRunning, killTraining, trainingHosts } from '../helpers/training-host.js';

/** Many jobs side by side in the one training process of a worker, whose arithmetic shares two threads. */

const SEEDS = [1, 2, 3, 4, 5, 6, 7, 8];
const GENERATIONS = 4;
/** Four candidates and the centre. */
const PROMPTS = 5;
/** One call with the candidates, one with the centre. */
const CALLS = 2;

let service: TestService;
let file: string;
/** The adapters of the seeds, each trained alone. */
let alone: Buffer[];

beforeAll(async () => {
  service = await testService({ CRAFT_TRAINING_THREADS: '2' });
  file = await uploadImages(service, await exampleImages(3, 4));
  alone = [];
  for (const seed of SEEDS) alone.push(await adapterOf(await runJob(service, request(seed))));
});

function request(seed: number) {
  return quickJob(file, { budget: { max_prompt_evaluations: GENERATIONS * PROMPTS } }, { seed });
}

async function adapterOf({ fine_tuned_model: id }: JobAnswer): Promise<Buffer> {
  return Buffer.from(await exportAdapter(service, id));
}

async function createAll(): Promise<string[]> {
  return Promise.all(SEEDS.map(async (seed) => (await createJob(service, request(seed))).id));
}

/** All succeed with the adapters that they have alone, and each of their calls is one purchase. */
async function expectAsAlone(ids: string[]): Promise<void> {
  const jobs = await Promise.all(ids.map((id) => service.finished(id)));
  for (const job of jobs) expect(job).toMatchObject({ status: 'succeeded', stop_reason: null, error: null });
  const adapters = await Promise.all(jobs.map(adapterOf));
  for (const [index, adapter] of adapters.entries()) expect(adapter.equals(alone[index]), ids[index]).toBe(true);
  const states = await service.core.database.reservation.groupBy({
    by: ['accountId', 'state'],
    where: { accountId: { in: ids } },
    _count: true,
  });
  const expected = ids.map((accountId) => ({ accountId, state: 'settled', _count: GENERATIONS * CALLS }));
  expect(new Set(states)).toEqual(new Set(expected));
}

async function settled(ids: string[]): Promise<number> {
  return service.core.database.reservation.count({ where: { accountId: { in: ids }, state: 'settled' } });
}

describe('jobs side by side on one worker', () => {
  it('run at the same time in one process, and give the adapters that they give alone', async () => {
    await misbehave(service, { hold_after: 0 });
    const ids = await createAll();
    await until(async () => service.working().length === SEEDS.length);
    expect(trainingHosts()).toHaveLength(1);
    await misbehave(service);
    await expectAsAlone(ids);
    expect(trainingHosts()).toHaveLength(1);
  });

  it('lose and pay for nothing when that process is killed in the middle', async () => {
    const jobs = await killedWhileRunning(service, [1, 3], () =>
      Promise.all(SEEDS.map((seed) => createJob(service, request(seed)))),
    );
    await expectAsAlone(jobs.map(({ id }) => id));
  });

  it('are tried again apart where they got nowhere in a process that died', async () => {
    await misbehave(service, { hold_after: 0 });
    const { id: suspect } = await createJob(service, request(SEEDS[0]));
    await until(() =>
      service.core.database.reservation.findFirst({ where: { accountId: suspect, state: 'reserved' } }),
    );
    const died = trainingHosts();
    killTraining();
    // Only then: a job that came while the process was dying would be a suspect, too.
    await until(async () => trainingHosts().some((pid) => !died.includes(pid)));
    const { id: other } = await createJob(service, request(SEEDS[1]));
    await until(async () => trainingHosts().length === 2);
    await misbehave(service);
    await expectAsAlone([suspect, other]);
    await until(async () => trainingHosts().length === 1);
  });

  it('are handed back by a worker that stops, with all that was in flight', async () => {
    await misbehave(service, { hold_after: SEEDS.length });
    const ids = await createAll();
    await until(async () => (await settled(ids)) >= SEEDS.length);
    const before = trainingHosts();
    const replaced = service.replaceWorker();
    // It waits for what is in flight.
    await misbehave(service);
    await replaced;
    expect(trainingHosts().filter((pid) => before.includes(pid))).toEqual([]);
    const left = await service.core.database.reservation.count({ where: { accountId: { in: ids }, state: 'unknown' } });
    expect(left).toBe(0);
    await expectAsAlone(ids);
  });

  it('do not keep each other waiting: one that is paused stops, the others go on', async () => {
    await misbehave(service, { hold_after: 0 });
    const ids = await createAll();
    const [first, ...others] = ids;
    await until(async () => service.working().length === SEEDS.length);
    await ok(service.request('POST', `/v1/fine_tuning/jobs/${first}/pause`));
    await misbehave(service);
    await until(async () => !service.working().includes(first));
    const spent = await settled([first]);
    await until(async () => (await settled(others)) >= others.length * GENERATIONS);
    await sleep(300);
    expect(await settled([first])).toBe(spent);
    await ok(service.request('POST', `/v1/fine_tuning/jobs/${first}/resume`));
    await expectAsAlone(ids);
  });
});
