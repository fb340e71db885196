import { describe, expect, it } from 'vitest';
import { readExample, toJsonl } from '../../src/demo/example-data.js';
import { findRedisServer, startRedis } from '../helpers/redis.js';
import { afterServices, type TestService, testService } from '../helpers/service.js';

const program = findRedisServer();

async function trainOnce(service: TestService) {
  const example = await readExample('fluent-contrast-subgroups', 'seed-1');
  const some = example.train.filter(({ label }) => example.classes.slice(0, 3).includes(label));
  const { id: file } = (await (await service.upload(toJsonl(some))).json()) as { id: string };
  const created = await service.request('POST', '/v1/fine_tuning/jobs', {
    model: 'emoji-clip',
    training_file: file,
    seed: 1,
    method: {
      type: 'craft',
      craft: {
        strategy: 'paper',
        hyperparameters: { population_size: 4, intrinsic_dimension: 8 },
        budget: { max_prompt_evaluations: 15 },
      },
    },
  });
  return service.finished(((await created.json()) as { id: string }).id);
}

describe.skipIf(program === undefined)('a job whose queue is on Redis', () => {
  it('trains to the end, and its spending is what the provider served', async () => {
    const redis = await startRedis(program ?? '');
    afterServices(() => redis.stop());
    const service = await testService({ REDIS_URL: redis.url });
    const job = await trainOnce(service);
    expect(job).toMatchObject({ status: 'succeeded', error: null, progress: { generation: 3 } });
    expect(job.budget.prompt_evaluations).toMatchObject({ used: 15, reserved: 0, remaining: 0 });
    const { totals } = service.provider.usage.report();
    expect(totals).toEqual({
      text_embeddings: 0,
      prompt_evaluations: job.budget.prompt_evaluations.used,
      image_queries: job.budget.image_queries.used,
      requests: job.budget.requests.used,
    });
  });
});
