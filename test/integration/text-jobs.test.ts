import { beforeAll, describe, expect, it } from 'vitest';
import { decodeAdapter } from '../../src/adapters/adapter-file.js';
import { errorOf, exampleImages, ok, quickJob, uploadImages } from '../helpers/api.js';
import { ProtocolJobs } from '../helpers/protocol-jobs.js';
import { type JobAnswer, type TestService, testService } from '../helpers/service.js';
import { killedWhileRunning } from '../helpers/training-host.js';

let service: TestService;
let training: string;
let jobs: ProtocolJobs;

beforeAll(async () => {
  service = await testService({ CRAFT_CHECKPOINT_INTERVAL: '2', CRAFT_WORKER_CONCURRENCY: '2' });
  training = await uploadImages(service, await exampleImages(3, 3));
  jobs = new ProtocolJobs(service, training);
});

async function usedBy(job: JobAnswer): Promise<Record<string, number>> {
  const { budget } = await ok<JobAnswer>(service.request('GET', `/v1/fine_tuning/jobs/${job.id}`));
  return { requests: budget.requests.used, image_queries: budget.image_queries.used };
}

async function adapterOf(job: JobAnswer) {
  const answer = await service.request('GET', `/v1/adapters/${job.fine_tuned_model}/export`);
  const { weights, about, textEmbeddings } = decodeAdapter(new Uint8Array(await answer.arrayBuffer()));
  return { weights, textEmbeddings, prompt: (about.metrics as { prompt: string }).prompt };
}

describe.each([
  { protocol: 'hugging_face' as const, kills: [20, 100, 200] },
  { protocol: 'embeddings' as const, kills: [2, 6] },
])('a text job through $protocol whose process is killed', ({ protocol, kills }) => {
  it('ends with the same adapter and pays for nothing twice', async () => {
    const name = `killed-${protocol.replaceAll('_', '-')}`;
    // A prompt a request, so that a kill falls between the calls of a generation.
    await jobs.register(
      protocol,
      name,
      { idempotency: {} },
      { limits: { prompts_per_request: 1, images_per_request: 4 } },
    );
    const undisturbed = await service.finished((await jobs.create(name)).id);
    expect(undisturbed).toMatchObject({ status: 'succeeded', error: null });
    // What a job paid for is there for others: the second one must not find the first one's images.
    await service.core.database.imageEmbedding.deleteMany();

    await jobs.reset();
    const [{ id }] = await killedWhileRunning(service, kills, async () => [await jobs.create(name)]);
    const disturbed = await service.finished(id);

    expect(disturbed).toMatchObject({ status: 'succeeded', error: null });
    expect(await adapterOf(disturbed)).toEqual(await adapterOf(undisturbed));
    const { requests, image_queries } = await jobs.served();
    expect(await usedBy(disturbed)).toEqual({ requests, image_queries });
    const epochs = await service.core.database.reservation.groupBy({ by: ['epoch'], where: { accountId: id } });
    expect(epochs.length).toBeGreaterThan(1);
  });
});

describe('a text job', () => {
  it('asks for no prompt twice', async () => {
    await jobs.register('embeddings', 'no-prompt-twice');
    const job = await service.finished(
      (await jobs.create('no-prompt-twice', { budget: { max_prompt_evaluations: 40 } })).id,
    );
    const where = { jobId: job.id, imageSet: { startsWith: 'texts ' } };
    expect(await service.core.database.scoredPrompt.count({ where })).toBe(job.budget.prompt_evaluations.used);
    expect(job.progress.generation).toBe(10);
  });

  it('shows its prompt in the job, the adapter and the checkpoints', async () => {
    await jobs.register('hugging_face', 'shows-its-prompt');
    const job = await service.finished((await jobs.create('shows-its-prompt')).id);
    const { prompt } = await ok<{ prompt: string }>(service.request('GET', `/v1/adapters/${job.fine_tuned_model}`));
    expect(prompt.split('{}')).toHaveLength(2);
    expect(job.metrics.current).toMatchObject({ prompt });
  });

  it('takes templates and words of the caller, and refuses those that are none', async () => {
    await jobs.register('hugging_face', 'own-words');
    const bad = { ...quickJob(training, { prompts: { templates: ['no place for a name'] } }), model: 'own-words' };
    const error = await errorOf(await service.request('POST', '/v1/fine_tuning/jobs', bad), 400);
    expect(error.param).toBe('method.craft.prompts.templates.0');
    const job = await jobs.create('own-words', {
      prompts: { templates: ['black line art of {}'], words: ['pictogram'] },
    });
    expect((await service.finished(job.id)).status).toBe('succeeded');
    const scored = await service.core.database.scoredPrompt.findMany({ where: { jobId: job.id } });
    expect(scored.map(({ template }) => template)).toContain('black line art of {}');
  });

  it('is refused soft prompts at a provider of texts, and prompts of words where they are soft', async () => {
    await jobs.register('hugging_face', 'texts-only');
    const soft = { ...quickJob(training, { prompt_space: 'soft' }), model: 'texts-only' };
    expect(await errorOf(await service.request('POST', '/v1/fine_tuning/jobs', soft), 400)).toMatchObject({
      code: 'prompt_space_not_supported',
      param: 'method.craft.prompt_space',
    });
    const words = quickJob(training, { prompts: { words: ['sketch'] } });
    expect(await errorOf(await service.request('POST', '/v1/fine_tuning/jobs', words), 400)).toMatchObject({
      code: 'prompts_not_used',
      param: 'method.craft.prompts',
    });
  });
});

describe('a provider that embeds', () => {
  it('is paid for each image once, whoever asks', async () => {
    const id = await jobs.register('embeddings', 'once-for-all');
    await jobs.reset();
    const first = await jobs.create('once-for-all');
    expect(first.plan.setup).toMatchObject({ image_queries: 9, requests: 1 });
    expect(first.plan.per_generation.image_queries).toBe(0);
    expect(first.plan.text_embeddings).toEqual({ per_generation: 12, total: 12 * first.plan.generations });
    const trained = await service.finished(first.id);
    expect(trained.budget.image_queries.used).toBe(9);
    expect(trained.budget).toMatchObject({ noted: { text_embeddings: 12 * first.plan.generations } });

    const second = await jobs.create('once-for-all', {}, await uploadImages(service, await exampleImages(3, 4)));
    expect(second.plan.setup).toMatchObject({ image_queries: 3, requests: 1 });
    await service.finished(second.id);

    const [known] = await exampleImages(3, 1);
    const images = [`data:image/png;base64,${known.bytes.toString('base64')}`];
    const answer = await ok<{ usage: Record<string, number> }>(
      service.request('POST', `/v1/adapters/${trained.fine_tuned_model}/predict`, { images }),
    );
    expect(answer.usage).toEqual({ prompt_evaluations: 0, image_queries: 0, requests: 0, cost_usd: 0 });
    expect((await jobs.served()).image_queries).toBe(12);
    const provider = await ok<{ usage: Record<string, number> }>(service.request('GET', `/v1/providers/${id}`));
    expect(provider.usage.image_queries).toBe(12);
  });
});

describe('jobs and predictions that need the same images at the same time', () => {
  it('pay for each of them once', async () => {
    await jobs.register('embeddings', 'side-by-side', {}, { limits: { images_per_request: 2 } });
    await jobs.reset();
    service.provider.misbehaviour.configure({ latency_ms: 50 });
    const created = await Promise.all([jobs.create('side-by-side'), jobs.create('side-by-side')]);
    const [first, second] = await Promise.all(created.map(({ id }) => service.finished(id)));
    expect([first.status, second.status]).toEqual(['succeeded', 'succeeded']);
    expect((await jobs.served()).image_queries).toBe(9);
    expect(first.budget.image_queries.used + second.budget.image_queries.used).toBe(9);

    const [unseen] = await exampleImages(3, 1, 'test');
    const images = [`data:image/png;base64,${unseen.bytes.toString('base64')}`];
    const path = `/v1/adapters/${first.fine_tuned_model}/predict`;
    await Promise.all(Array.from({ length: 4 }, () => ok(service.request('POST', path, { images }))));
    service.provider.misbehaviour.configure({});
    expect((await jobs.served()).image_queries).toBe(10);
  });
});

describe('more classes than a provider names in one request', () => {
  it('are asked about in rounds, which the plan shows', async () => {
    await jobs.register('openai_chat', 'in-rounds', { top_logprobs: 3 });
    const file = await uploadImages(service, await exampleImages(6, 1));
    const job = await jobs.create('in-rounds', { budget: { max_prompt_evaluations: 8 } }, file);
    // The first round has three classes, the others two and the anchor.
    expect(job.plan).toMatchObject({ rounds: 3, per_generation: { prompt_evaluations: 4, image_queries: 4 * 6 * 3 } });
    const finished = await service.finished(job.id);
    expect(finished).toMatchObject({ status: 'succeeded' });
    expect(finished.budget.image_queries.used).toBe(job.plan.total.image_queries);
  });
});

describe('prices by the token', () => {
  it('reserve from above and count what the provider says', async () => {
    await jobs.register(
      'openai_chat',
      'by-the-token',
      {},
      {
        prices: { per_million_input_tokens_usd: 150, per_million_output_tokens_usd: 600 },
      },
    );
    const job = await jobs.create('by-the-token', { budget: { max_prompt_evaluations: 8 } });
    const { budget } = (await service.finished(job.id)) as JobAnswer & { budget: { noted: Record<string, number> } };
    const { input_tokens, output_tokens } = budget.noted;
    expect(output_tokens).toBe(budget.requests.used);
    // Each call's cost is rounded up to a whole micro-dollar.
    const exact = (input_tokens * 150 + output_tokens * 600) / 1e6;
    expect(budget.cost_usd.used).toBeGreaterThanOrEqual(exact);
    expect(budget.cost_usd.used).toBeLessThanOrEqual(exact + budget.requests.used / 1e6);
    expect(job.plan.total.cost_usd).toBeGreaterThan(budget.cost_usd.used);
  });

  it('keep a job within its cost', async () => {
    await jobs.register('openai_chat', 'within-cost', {}, { prices: { per_million_input_tokens_usd: 150 } });
    const job = await jobs.create('within-cost', { budget: { max_cost_usd: 8 } });
    const { budget, status } = await service.finished(job.id);
    expect(status).toBe('succeeded');
    expect(budget.cost_usd.used).toBeLessThanOrEqual(8);
    expect(job.plan.total.cost_usd).toBeLessThanOrEqual(8);
  });
});
