import { execFileSync } from 'node:child_process';
import { setTimeout as sleep } from 'node:timers/promises';
import { beforeAll, describe, expect, it } from 'vitest';
import { readExample, toJsonl } from '../../src/demo/example-data.js';
import { readSafetensors } from '../../src/formats/safetensors.js';
import { type JobAnswer, type TestService, testService } from '../helpers/service.js';

let service: TestService;
let file: string;
const CONCURRENCY = 2;

beforeAll(async () => {
  service = await testService();
  const example = await readExample('fluent-contrast-subgroups', 'seed-1');
  const some = example.train.filter(({ label }) => example.classes.slice(0, 4).includes(label));
  file = ((await (await service.upload(toJsonl(some))).json()) as { id: string }).id;
  const [{ id }] = ((await (await service.request('GET', '/v1/providers')).json()) as { data: { id: string }[] }).data;
  // Many small calls, so that a kill falls between the calls of a generation.
  await service.request('PATCH', `/v1/providers/${id}`, {
    limits: { prompts_per_request: 2, images_per_request: 40, concurrency: CONCURRENCY },
  });
});

async function create(): Promise<string> {
  const created = await service.request('POST', '/v1/fine_tuning/jobs', {
    model: 'emoji-clip',
    training_file: file,
    seed: 5,
    method: {
      type: 'craft',
      craft: {
        hyperparameters: { population_size: 8, intrinsic_dimension: 16 },
        // Room for calls whose outcome a kill leaves unknown.
        budget: { max_prompt_evaluations: 9 * 6 + 8 },
      },
    },
  });
  return ((await created.json()) as JobAnswer).id;
}

async function tensorsOf(job: JobAnswer) {
  const answer = await service.request('GET', `/v1/adapters/${job.fine_tuned_model}/export`);
  return readSafetensors(new Uint8Array(await answer.arrayBuffer())).tensors;
}

function trainingProcesses(jobId: string): number[] {
  try {
    return execFileSync('pgrep', ['-f', `train-job ${jobId}`], { encoding: 'utf8' })
      .trim()
      .split('\n')
      .map(Number);
  } catch {
    return [];
  }
}

/** Waits until the job's provider calls have been settled this many times. */
async function settledCalls(jobId: string, count: number): Promise<void> {
  const where = { accountId: jobId, state: 'settled' };
  while ((await service.core.database.reservation.count({ where })) < count) await sleep(5);
}

describe('a job whose training process is killed', () => {
  it('goes on to the same adapter and pays for no answer twice', async () => {
    const undisturbed = await service.finished(await create());
    expect(undisturbed).toMatchObject({ status: 'succeeded', error: null });

    service.provider.misbehaviour.configure({ latency_ms: 40 });
    const jobId = await create();
    // Generations have 10 calls: the kills fall inside the first, the third and the fifth.
    for (const calls of [3, 24, 45]) {
      await settledCalls(jobId, calls);
      for (const pid of trainingProcesses(jobId)) process.kill(pid, 'SIGKILL');
    }
    const disturbed = await service.finished(jobId);
    service.provider.misbehaviour.configure({});

    expect(disturbed).toMatchObject({ status: 'succeeded', error: null });
    const rows = await service.core.database.reservation.findMany({ where: { accountId: jobId } });
    const paid = rows
      .filter(({ state }) => state === 'settled')
      .map(({ generation, chunk }) => `${generation}/${chunk}`);
    expect(new Set(paid).size).toBe(paid.length);
    expect(paid).toHaveLength(6 * 10);
    // What stays unknown was in flight when a process was killed.
    const unknown = rows.filter(({ state }) => state === 'unknown');
    expect(unknown.length).toBeGreaterThan(0);
    expect(unknown.length).toBeLessThanOrEqual(3 * CONCURRENCY);
    expect(rows).toHaveLength(paid.length + unknown.length);
    expect(await tensorsOf(disturbed)).toEqual(await tensorsOf(undisturbed));
    expect(await service.core.database.storedAnswer.count()).toBe(0);
  });
});
