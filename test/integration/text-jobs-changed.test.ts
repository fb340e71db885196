import { beforeAll, describe, expect, it } from 'vitest';
import { exampleImages, ok, quickJob, uploadImages } from '../helpers/api.js';
import { type ProtocolJob, ProtocolJobs } from '../helpers/protocol-jobs.js';
import { recordOf } from '../helpers/protocols.js';
import { API_KEY, type TestService, testService } from '../helpers/service.js';

let service: TestService;
let training: string;
let jobs: ProtocolJobs;

beforeAll(async () => {
  service = await testService({ CRAFT_CHECKPOINT_INTERVAL: '2' });
  training = await uploadImages(service, await exampleImages(3, 3));
  jobs = new ProtocolJobs(service, training);
});

describe('a text job whose provider is changed', () => {
  it('goes on from where it was, whatever becomes of the zero-shot template', async () => {
    const id = await jobs.register('hugging_face', 'changed-template');
    service.provider.misbehaviour.configure({ hold_after: 60 });
    const { id: jobId } = await jobs.create('changed-template');
    await jobs.settledCalls(jobId, 60);
    await ok(service.request('POST', `/v1/fine_tuning/jobs/${jobId}/pause`));
    service.provider.misbehaviour.configure({});
    const { settings } = recordOf('hugging_face', service.provider.url);
    const changed = { settings: { ...settings, hypothesis_template: 'a drawing of {}' } };
    await ok(service.request('PATCH', `/v1/providers/${id}`, changed));
    await ok(service.request('POST', `/v1/fine_tuning/jobs/${jobId}/resume`));
    expect(await service.finished(jobId)).toMatchObject({
      status: 'succeeded',
      error: null,
      progress: { generation: 6 },
    });
  });

  it('does not mix embeddings of different sizes of an image', async () => {
    const id = await jobs.register('embeddings', 'changed-size', { idempotency: {} });
    const first = await service.finished(
      (await jobs.create('changed-size', { budget: { max_prompt_evaluations: 8 } })).id,
    );
    expect(first.budget.image_queries.used).toBe(9);
    const { settings } = recordOf('embeddings', service.provider.url);
    const size = { width: 32, height: 32, fit: 'fill' };
    await ok(
      service.request('PATCH', `/v1/providers/${id}`, { settings: { ...settings, idempotency: {}, image_size: size } }),
    );
    await ok(service.request('POST', `/v1/fine_tuning/jobs/${first.id}/budget`, { max_prompt_evaluations: 16 }));
    const second = await service.finished(first.id);
    expect(second).toMatchObject({ status: 'succeeded', error: null, progress: { generation: 4 } });
    expect(second.budget.image_queries.used).toBe(18);
  });
});

describe('a text job that a deadline or a limit ends', () => {
  it('ends with what it has where its images are not there any more', async () => {
    await jobs.register('embeddings', 'images-gone');
    const job = await service.finished(
      (await jobs.create('images-gone', { budget: { max_image_queries: 9, max_prompt_evaluations: 8 } })).id,
    );
    expect(job).toMatchObject({ status: 'succeeded', progress: { generation: 2 } });
    await service.core.database.imageEmbedding.deleteMany();
    await ok(service.request('POST', `/v1/fine_tuning/jobs/${job.id}/budget`, { max_prompt_evaluations: 16 }));
    expect(await service.finished(job.id)).toMatchObject({
      status: 'succeeded',
      stop_reason: 'budget_exhausted',
      progress: { generation: 2 },
    });
  });

  it('goes on when its budget is raised, by what it has left', async () => {
    const prices = { per_million_input_tokens_usd: 150 };
    await jobs.register('openai_chat', 'raised', {}, { prices });
    const job = await jobs.create('raised', { budget: { max_cost_usd: 8 } });
    const first = await service.finished(job.id);
    // Calls cost less than was reserved for them, so that more generations than planned were paid for.
    expect(first.progress.generation).toBeGreaterThan(job.plan.generations);
    const raised = first.budget.cost_usd.used + (8 - first.budget.cost_usd.used) + 4;
    await ok(service.request('POST', `/v1/fine_tuning/jobs/${job.id}/budget`, { max_cost_usd: raised }));
    const second = await service.finished(job.id);
    expect(second.progress.generation).toBeGreaterThan(first.progress.generation);
    expect(second.budget.cost_usd.used).toBeLessThanOrEqual(raised);
  });

  it('does not wait for generations that nobody has planned', async () => {
    const prices = { per_million_input_tokens_usd: 150 };
    // The day pays for the plan and for nothing beyond it.
    const { plan } = await ok<ProtocolJob>(
      service.request('POST', '/v1/fine_tuning/jobs?dry_run=true', {
        ...quickJob(training, { budget: { max_cost_usd: 8 } }),
        model: 'raised',
      }),
    );
    const budget = { daily: { max_requests: plan.total.requests } };
    await jobs.register('openai_chat', 'day-of-the-plan', {}, { prices, budget });
    const job = await service.finished((await jobs.create('day-of-the-plan', { budget: { max_cost_usd: 8 } })).id);
    expect(job).toMatchObject({ status: 'succeeded', progress: { generation: plan.generations } });
    expect(job.fine_tuned_model).not.toBeNull();
  });
});

describe('an adapter of another model', () => {
  it('has its texts embedded anew, once', async () => {
    await jobs.register('embeddings', 'first-model');
    const id = await jobs.register('embeddings', 'second-model', { extra_body: { user: 'b' } });
    const job = await service.finished(
      (await jobs.create('first-model', { budget: { max_prompt_evaluations: 8 } })).id,
    );
    const file = await service.request('GET', `/v1/adapters/${job.fine_tuned_model}/export`);
    const form = new FormData();
    form.set('model', 'second-model');
    form.set('file', await file.blob(), 'adapter.safetensors');
    const imported = await ok<{ id: string }>(
      fetch(`${service.url}/v1/adapters/import`, {
        method: 'POST',
        headers: { authorization: `Bearer ${API_KEY}` },
        body: form,
      }),
    );
    const [known] = await exampleImages(3, 1);
    const images = [`data:image/png;base64,${known.bytes.toString('base64')}`];
    const predict = () =>
      ok<{ data: unknown; usage: Record<string, number> }>(
        service.request('POST', `/v1/adapters/${imported.id}/predict`, { images }),
      );
    const first = await predict();
    expect(first.usage).toMatchObject({ image_queries: 1, prompt_evaluations: 1, requests: 2 });
    const second = await predict();
    expect(second.usage).toMatchObject({ image_queries: 0, requests: 0 });
    expect(second.data).toEqual(first.data);
    expect(await ok(service.request('GET', `/v1/providers/${id}`))).toMatchObject({ usage: { image_queries: 1 } });
  });
});
