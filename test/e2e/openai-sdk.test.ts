import { buffer } from 'node:stream/consumers';
import { setTimeout as sleep } from 'node:timers/promises';
import OpenAI, { AuthenticationError, BadRequestError, ConflictError, NotFoundError, toFile } from 'openai';
import type { JobCreateParams } from 'openai/resources/fine-tuning/jobs/jobs';
import { beforeAll, describe, expect, it } from 'vitest';
import { ZipFile } from 'yazl';
import { type ExampleImage, type ExampleSplit, readExample, toDataUri } from '../../src/demo/example-data.js';
import { type Counts, difference, served, UNDER_WAY, UNITS } from '../helpers/api.js';
import { API_KEY, type JobAnswer, type TestService, testService } from '../helpers/service.js';

/** The demo's path, walked by OpenAI's own SDK as the client. */

const PROMPT_EVALUATIONS = 1600;
const MINIMUM_GAIN_POINTS = 10;
const PER_REQUEST = 256;

type Job = OpenAI.FineTuning.FineTuningJob & Omit<JobAnswer, 'error' | 'status'>;

interface Prediction {
  data: { predictions: { label: string; score: number }[] }[];
  usage: Counts;
}

let service: TestService;
let client: OpenAI;
let example: ExampleSplit;
let fileId: string;
let job: Job;
let before: Counts;
const providerUsage = async () => (await client.get<{ usage: Counts }>(`/providers/${await providerId()}`)).usage;

beforeAll(async () => {
  service = await testService();
  client = new OpenAI({ apiKey: API_KEY, baseURL: `${service.url}/v1`, maxRetries: 0 });
  example = await readExample('fluent-contrast-subgroups', 'seed-1');
  before = await served(service);
});

/** The training images as a ZIP with one folder per class under train/, made while it is sent; always the same bytes. */
function exampleZip(): ZipFile {
  const zip = new ZipFile();
  for (const { path, bytes } of example.train) {
    zip.addBuffer(bytes, `train/${path}`, { compress: false, mtime: new Date(2024, 1, 1) });
  }
  zip.end();
  return zip;
}

/** Our method is an extension, which the SDK's types do not know. */
function trainingRequest(budget: Record<string, number>): JobCreateParams {
  const request = {
    model: 'emoji-clip',
    training_file: fileId,
    suffix: 'sdk',
    seed: 1,
    metadata: { made_by: 'the SDK' },
    method: { type: 'craft', craft: { strategy: 'paper', budget } },
  };
  return request as unknown as JobCreateParams;
}

async function providerId(): Promise<string> {
  const { data } = await client.get<{ data: { id: string; name: string }[] }>('/providers');
  return data.find(({ name }) => name === 'emoji-clip')!.id;
}

/** Equal images of one request are asked about once. */
function distinctPerRequest(images: ExampleImage[]): number {
  const named = images.map(({ bytes }, at) => `${Math.floor(at / PER_REQUEST)} ${bytes.toString('base64')}`);
  return new Set(named).size;
}

async function accuracy(predict: (images: string[]) => Promise<Prediction>): Promise<number> {
  let correct = 0;
  for (let start = 0; start < example.test.length; start += PER_REQUEST) {
    const part = example.test.slice(start, start + PER_REQUEST);
    const { data } = await predict(part.map(({ bytes }) => toDataUri(bytes)));
    correct += data.filter(({ predictions }, i) => predictions[0].label === part[i].label).length;
  }
  return (correct / example.test.length) * 100;
}

describe('With OpenAI’s SDK', () => {
  it('a data set is uploaded from a stream', async () => {
    const zip = exampleZip();
    const file = await client.files.create({
      file: await toFile(zip.outputStream as unknown as AsyncIterable<Uint8Array>, 'emoji.zip'),
      purpose: 'fine-tune',
    });
    expect(file).toMatchObject({ object: 'file', filename: 'emoji.zip', purpose: 'fine-tune', status: 'processed' });
    const { report, classes } = file as unknown as { report: { images: unknown }; classes: string[] };
    expect(report.images).toEqual({ train: example.train.length, validation: 0 });
    expect(classes).toEqual([...example.classes].sort());
    fileId = file.id;

    expect(await client.files.retrieve(fileId)).toEqual(file);
    const content = await client.files.content(fileId);
    expect(Buffer.from(await content.arrayBuffer()).equals(await buffer(exampleZip().outputStream))).toBe(true);
  });

  it('files are listed across pages and deleted', async () => {
    const lines = example.train.slice(0, 40).map(({ bytes, label }) => ({ image: toDataUri(bytes), label }));
    const text = lines.map((line) => JSON.stringify(line)).join('\n');
    const others = [];
    for (const name of ['a.jsonl', 'b.jsonl']) {
      others.push(await client.files.create({ file: await toFile(Buffer.from(text), name), purpose: 'fine-tune' }));
    }
    const listed: string[] = [];
    for await (const { id } of client.files.list({ limit: 1 })) listed.push(id);
    expect(listed).toEqual([others[1].id, others[0].id, fileId]);
    for (const { id } of others) expect(await client.files.delete(id)).toEqual({ id, object: 'file', deleted: true });
    await expect(client.files.retrieve(others[0].id)).rejects.toThrow(NotFoundError);
  });

  it('a job trains to its end', async () => {
    const created = await client.fineTuning.jobs.create(
      trainingRequest({ max_prompt_evaluations: PROMPT_EVALUATIONS }),
    );
    expect(created).toMatchObject({ object: 'fine_tuning.job', model: 'emoji-clip', status: UNDER_WAY, seed: 1 });
    expect(await client.fineTuning.jobs.pause(created.id)).toMatchObject({ id: created.id, status: 'paused' });
    job = (await client.fineTuning.jobs.resume(created.id)) as unknown as Job;
    expect(job.status).toEqual(UNDER_WAY);
    while (!['succeeded', 'failed', 'cancelled'].includes(job.status)) {
      await sleep(200);
      job = (await client.fineTuning.jobs.retrieve(created.id)) as unknown as Job;
    }
    expect(job).toMatchObject({ status: 'succeeded', error: null, metadata: { made_by: 'the SDK' } });
    expect(job.fine_tuned_model).toMatch(/^ft:emoji-clip:sdk:/);
    expect(job.budget.prompt_evaluations.used).toBeLessThanOrEqual(PROMPT_EVALUATIONS);
    const listed = [];
    for await (const { id } of client.fineTuning.jobs.list()) listed.push(id);
    expect(listed).toEqual([job.id]);
    const withMetadata = async (metadata: Record<string, string> | null) =>
      (await client.fineTuning.jobs.list({ metadata })).data.map(({ id }) => id);
    expect(await withMetadata({ made_by: 'the SDK' })).toEqual([job.id]);
    expect(await withMetadata({ made_by: 'nobody' })).toEqual([]);
    expect(await withMetadata(null)).toEqual([]);
  }, 180_000);

  it('its events and checkpoints are listed across pages', async () => {
    const steps: number[] = [];
    for await (const { object, type, data } of client.fineTuning.jobs.listEvents(job.id, { limit: 10 })) {
      expect(object).toBe('fine_tuning.job.event');
      if (type === 'metrics') steps.push((data as { step: number }).step);
    }
    expect(steps).toEqual(Array.from({ length: job.plan.generations }, (_, i) => job.plan.generations - i));

    const checkpoints = [];
    for await (const checkpoint of client.fineTuning.jobs.checkpoints.list(job.id, { limit: 7 })) {
      expect(checkpoint).toMatchObject({ object: 'fine_tuning.job.checkpoint', fine_tuning_job_id: job.id });
      checkpoints.push(checkpoint.step_number);
    }
    expect(checkpoints[0]).toBe(job.plan.generations);
    expect(checkpoints).toEqual([...new Set(checkpoints)].sort((a, b) => b - a));
    expect(checkpoints.length).toBeGreaterThan(10);
  });

  it('the adapter predicts unseen images better than the black box, and not a query is miscounted', async () => {
    const provider = await providerId();
    const zeroShot = await accuracy((images) =>
      client.post(`/providers/${provider}/zero_shot`, { body: { images, labels: example.classes, top_k: 1 } }),
    );
    const tuned = await accuracy((images) =>
      client.post(`/adapters/${job.fine_tuned_model}/predict`, { body: { images, top_k: 1 } }),
    );
    expect(tuned - zeroShot).toBeGreaterThanOrEqual(MINIMUM_GAIN_POINTS);

    const counted = difference(await served(service), before);
    expect(await providerUsage()).toMatchObject(counted);
    expect(counted.prompt_evaluations).toBe(job.budget.prompt_evaluations.used + 4);
    expect(counted.image_queries).toBe(job.budget.image_queries.used + 2 * distinctPerRequest(example.test));
    for (const unit of UNITS) expect(job.budget[unit].used).toBe(job.plan.total[unit]);
  });

  it('a job is cancelled', async () => {
    const { id } = await client.fineTuning.jobs.create(trainingRequest({ max_prompt_evaluations: 100_000 }));
    expect(await client.fineTuning.jobs.cancel(id)).toMatchObject({ id, status: 'cancelled' });
    expect(await client.fineTuning.jobs.retrieve(id)).toMatchObject({ status: 'cancelled', fine_tuned_model: null });
    await expect(client.fineTuning.jobs.cancel(id)).rejects.toThrow(ConflictError);
  });

  it('errors arrive as the SDK’s classes, with code and param', async () => {
    await expect(client.fineTuning.jobs.retrieve('ftjob-none')).rejects.toSatisfy(
      (error) =>
        error instanceof NotFoundError && error.code === 'job_not_found' && error.param === 'fine_tuning_job_id',
    );
    const stranger = new OpenAI({ apiKey: 'ck-nobody', baseURL: `${service.url}/v1`, maxRetries: 0 });
    await expect(stranger.files.list()).rejects.toSatisfy(
      (error) => error instanceof AuthenticationError && error.code === 'invalid_api_key' && error.status === 401,
    );
    await expect(client.fineTuning.jobs.create(trainingRequest({ max_prompt_evaluations: 1 }))).rejects.toSatisfy(
      (error) =>
        error instanceof BadRequestError &&
        error.code === 'budget_too_small' &&
        error.param === 'method.craft.budget.max_prompt_evaluations' &&
        error.type === 'invalid_request_error' &&
        error.message.includes('Raise max_prompt_evaluations') &&
        /^req-/.test(error.requestID ?? ''),
    );
    const text = await toFile(Buffer.from('no data set'), 'a.zip');
    await expect(client.files.create({ file: text, purpose: 'fine-tune' })).rejects.toThrow(/Upload a ZIP/);
  });
});
