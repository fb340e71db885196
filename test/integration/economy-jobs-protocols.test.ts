import { beforeAll, describe, expect, it } from 'vitest';
import { probeLabelsFor } from '../../src/craft/economy/probe-labels.js';
import { type ExampleImage, toDataUri, toJsonl } from '../../src/demo/example-data.js';
import { readSafetensors } from '../../src/formats/safetensors.js';
import { errorOf, exampleImages, exportAdapter, ok, sendForm, uploadImages, withTensor } from '../helpers/api.js';
import {
  type Adapter,
  adapterBytes,
  createEconomyJob,
  type EconomyJob,
  economyJob,
  expectPaidOnce,
  predict,
  runEconomyJob,
} from '../helpers/economy-jobs.js';
import { ProtocolJobs } from '../helpers/protocol-jobs.js';
import type { ProtocolName } from '../helpers/protocols.js';
import { type TestService, testService } from '../helpers/service.js';
import { killedWhileRunning } from '../helpers/training-host.js';

/** Economy jobs at providers of every kind. */

const CLASSES = 3;
const SHOTS = 4;
const N = CLASSES * SHOTS;

let service: TestService;
let jobs: ProtocolJobs;
let file: string;
let images: ExampleImage[];
let test: ExampleImage[];

beforeAll(async () => {
  service = await testService();
  images = await exampleImages(CLASSES, SHOTS);
  test = await exampleImages(CLASSES, 1, 'test');
  file = await uploadImages(service, images);
  jobs = new ProtocolJobs(service, file);
});

const at = (model: string, factor: number, craft: Record<string, unknown> = {}, training = file) =>
  economyJob(training, { budget: { max_image_queries: factor * N }, ...craft }, { model });
const adapterOf = ({ fine_tuned_model: id }: EconomyJob) => exportAdapter(service, id);
const import_ = (bytes: Uint8Array, model: string) =>
  sendForm(service, '/v1/adapters/import', [
    { name: 'model', value: model },
    { name: 'file', value: bytes, filename: 'adapter.safetensors' },
  ]);

describe.each<[ProtocolName, number]>([
  ['hugging_face', 128],
  ['custom_http', 128],
  ['openai_chat', 0],
])('a provider of protocol %s', (protocol, probes) => {
  it('is asked what the plan says, and predicts the same after export and import', async () => {
    const model = `economy-${protocol.replaceAll('_', '-')}`;
    await jobs.register(protocol, model);
    await jobs.reset();
    const { job, counts } = await runEconomyJob(service, at(model, 2, { prediction_queries: 2 }));
    expect(job).toMatchObject({ status: 'succeeded', error: null, plan: { strategy: 'economy', rounds: 1 } });
    expect(job.plan.probe_labels).toHaveLength(probes);
    expect(counts.image_queries).toBe(2 * N);
    // The provider counts the prompts of each of its requests; a prompt evaluation is a whole view here.
    const { image_queries, requests } = counts;
    expect(job.plan.total).toMatchObject({ prompt_evaluations: 2, image_queries, requests });
    expect(job.budget.prompt_evaluations.used).toBe(2);
    expect(job.budget.image_queries.used).toBe(2 * N);
    expect(job.budget.requests.used).toBe(counts.requests);
    const { metadata } = readSafetensors(await adapterOf(job));
    expect(JSON.parse(metadata.adapter).probes ?? []).toEqual(job.plan.probe_labels);

    const imported = await ok<Adapter>(import_(await adapterOf(job), model));
    expect(imported.prediction).toEqual(job.plan.prediction);
    const [before, after] = [
      await predict(service, job.fine_tuned_model, test, { black_box: true }),
      await predict(service, imported.id, test, { black_box: true }),
    ];
    expect(after.data).toEqual(before.data);
    expect(before.usage).toMatchObject({ image_queries: 2 * test.length });
    expect(job.plan.prediction?.usage.image_queries).toBe(2);
  });
});

describe('what a prediction costs', () => {
  it('is told of an import by the limits and prices of its new provider, as they are by now', async () => {
    const { job } = await runEconomyJob(service, at('emoji-clip', 1, { prompt_space: 'text', probe_labels: 0 }));
    // So many classes take two requests here.
    const there = await jobs.register(
      'hugging_face',
      'two-at-once',
      { max_labels: 2 },
      { prices: { per_request_usd: 0.01 } },
    );
    const imported = await ok<Adapter>(import_(await adapterOf(job), 'two-at-once'));
    const cost = { prompt_evaluations: 1, image_queries: 2, requests: 2, cost_usd: 0.02 };
    expect(imported.prediction).toEqual({ transforms: ['identity'], usage: cost });
    const before = (await predict(service, imported.id, test.slice(0, 1))).usage;
    expect(before).toEqual(cost);

    const path = `/v1/providers/${there}`;
    await ok(service.request('PATCH', path, { prices: { per_request_usd: 0.03 } }));
    const told = () => ok<Adapter>(service.request('GET', `/v1/adapters/${imported.id}`));
    expect((await told()).prediction?.usage.cost_usd).toBe(0.06);
    const { data } = await ok<{ data: Adapter[] }>(service.request('GET', '/v1/adapters?limit=1'));
    expect(data[0].id).toBe(imported.id);
    expect(data[0]).not.toHaveProperty('prediction');
    await ok(service.request('DELETE', path));
    expect((await told()).prediction).toBeNull();
  });
});

describe('text and soft prompts', () => {
  it('begin from the prompt that the provider has, which stays', async () => {
    const soft = (await runEconomyJob(service, at('emoji-clip', 2, { prompt_space: 'soft' }))).job;
    const text = (await runEconomyJob(service, at('emoji-clip', 2, { prompt_space: 'text' }))).job;
    const own = (
      await runEconomyJob(
        service,
        at('emoji-clip', 2, { prompt_space: 'text', prompts: { start: 'a drawing of a {}' } }),
      )
    ).job;
    for (const job of [soft, text, own])
      expect(job).toMatchObject({ status: 'succeeded', plan: { strategy: 'economy' } });
    const prompts = await Promise.all(
      [soft, text, own].map(
        async ({ fine_tuned_model: id }) =>
          (await ok<{ prompt: string | null }>(service.request('GET', `/v1/adapters/${id}`))).prompt,
      ),
    );
    expect(prompts).toEqual([null, 'a photo of a {}.', 'a drawing of a {}']);
  });
});

describe('a provider that embeds', () => {
  it('is asked by a job that began untrained as by one that had the budget at once', async () => {
    await jobs.register('embeddings', 'economy-raised');
    // Of the second job all embeddings are known, and it would go on to further views.
    const asked = { prediction_queries: 2, views: 1 };
    const craft = { ...asked, budget: { max_image_queries: 1 } };
    const { job: untrained } = await runEconomyJob(service, at('economy-raised', 0, craft));
    expect(untrained).toMatchObject({ status: 'succeeded', plan: { generations: 0 } });
    const path = `/v1/fine_tuning/jobs/${untrained.id}/budget`;
    await ok(service.request('POST', path, { max_image_queries: 2 * N }));
    const raised = (await service.finished(untrained.id)) as EconomyJob;
    const { job: fresh } = await runEconomyJob(service, at('economy-raised', 2, asked));
    expect(raised).toMatchObject({ plan: fresh.plan, method: fresh.method, progress: { generation: 2 } });
    expect(await adapterBytes(service, raised)).toEqual(await adapterBytes(service, fresh));
  });

  it('has each image, each view and each text asked once, whoever asks', async () => {
    await jobs.register('embeddings', 'economy-embeds', {}, { limits: { images_per_request: 4 } });
    await jobs.reset();
    const V = CLASSES;
    const craft = { validation_fraction: 0.25, budget: { max_image_queries: 2 * (N - V) + V } };
    const { job: first } = await runEconomyJob(service, at('economy-embeds', 0, craft));
    expect(first).toMatchObject({ status: 'succeeded', error: null, progress: { generation: 2 } });
    expect(first.plan).toMatchObject({
      probe_labels: [],
      setup: { image_queries: V, prompt_evaluations: 1 },
      per_generation: { image_queries: N - V, prompt_evaluations: 0 },
      total: { image_queries: 2 * (N - V) + V, prompt_evaluations: 1 },
      text_embeddings: { per_generation: 0, total: CLASSES },
    });
    expect(first.budget.image_queries.used).toBe(2 * (N - V) + V);
    expect(first.budget).toMatchObject({ noted: { text_embeddings: CLASSES } });
    expect(await jobs.served()).toMatchObject({ image_queries: 2 * (N - V) + V, text_embeddings: CLASSES });

    const { job: second } = await runEconomyJob(service, at('economy-embeds', 0, { ...craft, views: 2 }));
    expect(second).toMatchObject({ status: 'succeeded', progress: { generation: 2 } });
    expect(second.budget.image_queries.used).toBe(0);
    expect((await jobs.served()).image_queries).toBe(2 * (N - V) + V);
    // The same answers, the same head.
    const [a, b] = await Promise.all([first, second].map(async (job) => readSafetensors(await adapterOf(job)).tensors));
    expect(b).toEqual(a);

    // What known views leave of a budget pays for further ones.
    const { job: third } = await runEconomyJob(service, at('economy-embeds', 0, craft));
    expect(third.progress.generation).toBeGreaterThan(2);
    expect(third.budget.image_queries.used).toBeGreaterThan(0);
    expect(third.budget.image_queries.used).toBeLessThanOrEqual(craft.budget.max_image_queries);

    await jobs.reset();
    const known = await predict(service, first.fine_tuned_model, images.slice(0, 2));
    expect(known.usage).toMatchObject({ image_queries: 0, requests: 0 });
    const unseen = await predict(service, first.fine_tuned_model, test, { views: 2 });
    expect(unseen.usage).toMatchObject({ image_queries: 2 * test.length, prompt_evaluations: 0 });
    expect(await jobs.served()).toMatchObject({ image_queries: 2 * test.length, text_embeddings: 0 });
  });

  it('is not answered for by an adapter that was deleted, though everything is known', async () => {
    await jobs.register('embeddings', 'economy-deleted');
    const { job } = await runEconomyJob(service, at('economy-deleted', 1));
    const { fine_tuned_model: id } = job;
    const known = await predict(service, id, images.slice(0, 2));
    expect(known.usage).toMatchObject({ image_queries: 0, requests: 0 });
    await ok(service.request('DELETE', `/v1/adapters/${id}`));
    const again = { images: images.slice(0, 2).map(({ bytes }) => toDataUri(bytes)) };
    const answer = await service.request('POST', `/v1/adapters/${id}/predict`, again);
    expect(await errorOf(answer, 404)).toMatchObject({ code: 'adapter_not_found', param: 'adapter_id' });
  });

  it('is paid once by a job that is killed, whose budget leaves no room', async () => {
    await jobs.register(
      'embeddings',
      'economy-killed',
      { idempotency: {} },
      { limits: { images_per_request: 4, concurrency: 2 } },
    );
    await jobs.reset();
    const [created] = await killedWhileRunning(service, [1, 4], async () => [
      await createEconomyJob(service, at('economy-killed', 2, { views: 2 })),
    ]);
    const done = (await service.finished(created.id)) as EconomyJob;
    expect(done).toMatchObject({ status: 'succeeded', error: null, progress: { generation: 2 } });
    expect(done.budget.image_queries.used).toBe(2 * N);
    expect((await jobs.served()).image_queries).toBe(2 * N);
    await expectPaidOnce(service, done.id);
    const { job: undisturbed } = await runEconomyJob(service, at('economy-killed', 2, { views: 2 }));
    const [a, b] = await Promise.all([done, undisturbed].map((job) => adapterBytes(service, job)));
    expect(readSafetensors(a).tensors).toEqual(readSafetensors(b).tensors);
  });

  it('has adapters of its own, and those that read scores have theirs', async () => {
    await jobs.register('embeddings', 'economy-fit');
    const embedded = (await runEconomyJob(service, at('economy-fit', 1))).job;
    const scored = (await runEconomyJob(service, at('emoji-clip', 1, { prompt_space: 'text' }))).job;
    for (const [job, model, what] of [
      [embedded, 'emoji-clip', 'reads embeddings'],
      [scored, 'economy-fit', 'reads scores'],
    ] as const) {
      const error = await errorOf(await import_(await adapterOf(job), model), 400);
      expect(error).toMatchObject({ code: 'adapter_does_not_fit', param: 'model' });
      expect(error.message).toContain(what);
    }
    const imported = await ok<{ id: string }>(import_(await adapterOf(embedded), 'economy-fit'));
    const [a, b] = [await predict(service, embedded.fine_tuned_model, test), await predict(service, imported.id, test)];
    expect(b.data).toEqual(a.data);
    const damaged = withTensor(await adapterOf(scored), 'head.shares', [2], Float32Array.of(1, 0));
    expect((await errorOf(await import_(damaged, 'emoji-clip'), 400)).code).toBe('invalid_adapter_file');
  });
});

describe('labels that a request has room for', () => {
  it.each([
    { room: 'none', max: CLASSES, probes: 0, rounds: 1 },
    { room: 'little', max: CLASSES + 5, probes: 5, rounds: 1 },
    { room: 'less than the classes', max: 2, probes: 0, rounds: 2 },
  ])('beside the classes: $room', async ({ max, probes, rounds }) => {
    const model = `economy-room-${max}`;
    await jobs.register('hugging_face', model, { max_labels: max });
    const { job, counts } = await runEconomyJob(service, at(model, 2 * rounds));
    expect(job).toMatchObject({ status: 'succeeded', plan: { rounds } });
    expect(job.plan.probe_labels).toHaveLength(probes);
    expect(counts.image_queries).toBe(2 * rounds * N);
    expect(job.plan.total).toMatchObject({ image_queries: counts.image_queries, requests: counts.requests });
    expect(job.budget.image_queries.used).toBe(counts.image_queries);
    const answer = await predict(service, job.fine_tuned_model, test);
    expect(answer.usage.image_queries).toBe(test.length * rounds);

    const wanted = { probe_labels: probes + 1 };
    const refused = await service.request('POST', '/v1/fine_tuning/jobs', at(model, 2 * rounds, wanted));
    expect(await errorOf(refused, 400)).toMatchObject({
      code: 'too_many_labels_for_provider',
      param: 'method.craft.probe_labels',
    });
  });
});

describe('classes', () => {
  it('that are probe labels elsewhere are asked about once', async () => {
    const names = ['Dog', 'bread', ' man'];
    const renamed = images.map((image, i) => ({ ...image, label: names[Math.floor(i / SHOTS)] }));
    const id = await uploadImages(service, renamed);
    const { job } = await runEconomyJob(service, at('emoji-clip', 2, {}, id));
    expect(job).toMatchObject({ status: 'succeeded', error: null });
    expect(job.plan.probe_labels).toEqual(probeLabelsFor(['dog', 'bread', 'man'], 128));
    expect(job.plan.probe_labels).not.toContain('dog');
    await jobs.register('hugging_face', 'economy-names');
    expect((await runEconomyJob(service, at('economy-names', 1, {}, id))).job.status).toBe('succeeded');
  });

  it('may have descriptions, which probe labels have not', async () => {
    const described = [...new Set(images.map(({ label }) => label))].map((label) => ({
      label,
      description: `one of the ${label} kind`,
    }));
    const { id } = await ok<{ id: string }>(
      sendForm(service, '/v1/files', [
        { name: 'purpose', value: 'fine-tune' },
        { name: 'classes', value: JSON.stringify(described) },
        { name: 'file', value: Buffer.from(toJsonl(images)), filename: 'described.jsonl' },
      ]),
    );
    const start = 'a photo of a {}, {description}.';
    const craft = { prompt_space: 'text', prompts: { start } };
    for (const protocol of ['hugging_face', 'embeddings'] as const) {
      const model = `economy-described-${protocol.replaceAll('_', '-')}`;
      await jobs.register(protocol, model);
      const { job } = await runEconomyJob(service, at(model, 2, craft, id));
      expect(job).toMatchObject({ status: 'succeeded', error: null, plan: { strategy: 'economy' } });
      expect(job.budget.image_queries.used).toBe(job.plan.total.image_queries);
      expect((await predict(service, job.fine_tuned_model, test)).data).toHaveLength(test.length);
    }
  });
});
