import { randomBytes } from 'node:crypto';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { fileURLToPath } from 'node:url';
import sharp from 'sharp';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { DEFAULT_DATASET_LIMITS, MAX_REQUEST_PIXELS } from '../../src/datasets/limits.js';
import { type RunningReferenceProvider, startReferenceProvider } from '../../src/reference-provider/start.js';
import { createJob, errorOf, ok, quickJob, sendForm, until } from '../helpers/api.js';
import { dataUri, jsonl } from '../helpers/dataset-files.js';
import { type JobAnswer, type TestService, testService } from '../helpers/service.js';

/** Calls are cut by all that a provider says it takes: bytes, texts and logits beside the counts. */

const JOBS = '/v1/fine_tuning/jobs';
const BODY_LIMIT = 300_000;

interface DryRun {
  plan: { per_generation: Record<string, number>; total: Record<string, number> };
}

interface Prediction {
  data: unknown[];
  usage: Record<string, number>;
}

let service: TestService;
/** Takes bodies of BODY_LIMIT bytes, and says so. */
let small: RunningReferenceProvider;
let smallId: string;
let metadata: Record<string, unknown>;
let stub: Server;
/** 12 images of 3 classes, of which only a few fit in a request to `small`. */
let file: string;
let photos: Buffer[];

beforeAll(async () => {
  service = await testService();
  small = await startReferenceProvider({
    modelDirectory: fileURLToPath(new URL('../../models/emoji-clip', import.meta.url)),
    bodyLimit: BODY_LIMIT,
  });
  smallId = (await register('small', small.url)).id;
  metadata = (await (await fetch(`${small.url}/v2/models/emoji-clip`)).json()) as Record<string, unknown>;
  photos = await Promise.all(Array.from({ length: 12 }, (_, i) => noise(150 + i)));
  file = await upload(photos);
  stub = createServer((_request, response) => {
    response.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify(metadata));
  });
  await new Promise<void>((resolve) => stub.listen(0, '127.0.0.1', resolve));
});

afterAll(async () => {
  await small.close();
  stub.close();
});

/** An image that does not compress: three bytes a pixel. */
function noise(edge: number): Promise<Buffer> {
  const pixels = randomBytes(edge * edge * 3);
  return sharp(pixels, { raw: { width: edge, height: edge, channels: 3 } })
    .png({ compressionLevel: 0 })
    .toBuffer();
}

async function upload(images: Buffer[]): Promise<string> {
  const lines = images.map((bytes, i) => ({ image: dataUri(bytes), label: `class ${i % 3}` }));
  return (await ok<{ id: string }>(service.upload(new Uint8Array(jsonl(lines))))).id;
}

function register(name: string, baseUrl: string, changes: Record<string, unknown> = {}) {
  return ok<{ id: string; capabilities: Record<string, unknown>; limits: Record<string, unknown> }>(
    service.request('POST', '/v1/providers', {
      name,
      protocol: 'open_inference',
      base_url: baseUrl,
      remote_model: 'emoji-clip',
      ...changes,
    }),
  );
}

/** Registers a provider that states other maxima than the reference provider's. */
function registerStating(name: string, maxima: Record<string, number>, changes: Record<string, unknown> = {}) {
  const parameters = metadata.parameters as Record<string, unknown>;
  const before = metadata;
  metadata = { ...metadata, parameters: { ...parameters, ...maxima } };
  return register(name, `http://127.0.0.1:${(stub.address() as AddressInfo).port}`, changes).finally(() => {
    metadata = before;
  });
}

function plan(job: unknown): Promise<Response> {
  return service.request('POST', `${JOBS}?dry_run=true`, job);
}

describe('a provider that takes few bytes', () => {
  it('is registered with what it states', async () => {
    const record = await ok<Record<string, unknown>>(service.request('GET', `/v1/providers/${smallId}`));
    expect(record).toMatchObject({
      limits: { max_request_bytes: 32 * 1024 * 1024 },
      capabilities: {
        max_request_bytes: BODY_LIMIT,
        max_classes_per_request: 4096,
        max_texts_per_request: 262_144,
        max_logits_per_request: 16_777_216,
      },
    });
  });

  it('trains a job with as many calls as planned', async () => {
    const before = small.usage.report().totals.requests;
    const job = await service.finished((await createJob(service, quickJob(file, {}, { model: 'small' }))).id);
    expect(job.error).toBeNull();
    expect(job.status).toBe('succeeded');
    // Of 70 to 80 kB each, at most four fit.
    expect(job.plan.total.requests).toBeGreaterThanOrEqual(job.plan.generations * 2 * 3);
    expect(small.usage.report().totals.requests - before).toBe(job.plan.total.requests);

    const images = photos.map((bytes) => dataUri(bytes));
    const answer = await ok<Prediction>(
      service.request('POST', `/v1/adapters/${job.fine_tuned_model}/predict`, { images }),
    );
    expect(answer.data).toHaveLength(12);
    expect(answer.usage).toMatchObject({ image_queries: 12, prompt_evaluations: 1 });
    expect(answer.usage.requests).toBeGreaterThanOrEqual(3);
  });

  it('keeps a job to the cut that was planned, whatever becomes of the record', async () => {
    const slow = { limits: { requests_per_second: 20, concurrency: 1 } };
    const { id: providerId } = await register('shrinking', small.url, slow);
    const { id } = await createJob(service, quickJob(file, {}, { model: 'shrinking' }));
    await ok(
      service.request('PATCH', `/v1/providers/${providerId}`, {
        limits: { images_per_request: 1, prompts_per_request: 1, requests_per_second: null },
      }),
    );
    const job = await service.finished(id);
    expect(job.status).toBe('succeeded');
    expect(job.budget.requests.used).toBe(job.plan.total.requests);
  });

  it('refuses an image larger than a request, by the file or the image that is to blame', async () => {
    const large = await noise(320);
    expect(large.length).toBeGreaterThan(BODY_LIMIT);
    const withLarge = await upload([...photos.slice(0, 6), large]);
    const inTraining = await errorOf(await plan(quickJob(withLarge, {}, { model: 'small' })), 400);
    expect(inTraining).toMatchObject({ code: 'image_too_large_for_provider', param: 'training_file' });
    expect(inTraining.message).toContain(String(large.length));

    const validation = await upload([large, ...photos.slice(10)]);
    const training = await upload(photos.slice(0, 9));
    const job = quickJob(training, {}, { model: 'small', validation_file: validation });
    const inValidation = await errorOf(await plan(job), 400);
    expect(inValidation).toMatchObject({ code: 'image_too_large_for_provider', param: 'validation_file' });

    const before = small.usage.report().totals.requests;
    const asked = { images: [dataUri(photos[0]), dataUri(large)], labels: ['a', 'b'] };
    const refused = await errorOf(await service.request('POST', `/v1/providers/${smallId}/zero_shot`, asked), 413);
    expect(refused).toMatchObject({ code: 'image_too_large_for_provider', param: 'images.1' });
    expect(refused.message).toContain('max_request_bytes');
    expect(small.usage.report().totals.requests).toBe(before);
  });

  it('gets what the record allows where that is less', async () => {
    await register('roomy', service.provider.url, { credentials: { type: 'bearer', token: service.providerKey } });
    const requests = async () =>
      (await ok<DryRun>(plan(quickJob(file, {}, { model: 'roomy' })))).plan.per_generation.requests;
    expect(await requests()).toBe(2);
    const many = await upload(await Promise.all(Array.from({ length: 24 }, (_, i) => noise(150 + i))));
    await register('tight', service.provider.url, {
      credentials: { type: 'bearer', token: service.providerKey },
      limits: { max_request_bytes: 1024 * 1024 },
    });
    // 1.8 MB in 1 MiB.
    const tight = await ok<DryRun>(plan(quickJob(many, {}, { model: 'tight' })));
    expect(tight.plan.per_generation.requests).toBeGreaterThanOrEqual(4);
  });

  it.each([1024 * 1024 - 1, 1024 ** 3 + 1, 2e6 + 0.5])('cannot be given max_request_bytes of %d', async (bytes) => {
    const patch = { limits: { max_request_bytes: bytes } };
    const error = await errorOf(await service.request('PATCH', `/v1/providers/${smallId}`, patch), 400);
    expect(error.param).toBe('limits.max_request_bytes');
  });
});

describe('a provider that states other maxima', () => {
  const requests = async (model: string) =>
    (await ok<DryRun>(plan(quickJob(file, {}, { model })))).plan.per_generation.requests;

  it('gets calls with no more logits and texts than it takes', async () => {
    await registerStating('many-bytes', { max_request_bytes: 1e8 });
    expect(await requests('many-bytes')).toBe(2);
    // 4 candidates and the centre on 12 images of 3 classes are 144 and 36 logits.
    await registerStating('few-logits', { max_request_bytes: 1e8, max_logits_per_request: 72 });
    expect(await requests('few-logits')).toBe(2 + 1);
    await registerStating('few-texts', { max_request_bytes: 1e8, max_texts_per_request: 5 });
    expect(await requests('few-texts')).toBe(4 + 1);
  });

  it('is asked in rounds about more classes than it takes', async () => {
    await registerStating('few-classes', { max_classes_per_request: 2 });
    const planned = await ok<{ plan: { rounds: number; per_generation: Record<string, number> } }>(
      plan(quickJob(file, {}, { model: 'few-classes' })),
    );
    expect(planned.plan.rounds).toBe(2);
    // Each round is an image query of its own.
    expect(planned.plan.per_generation).toMatchObject({ prompt_evaluations: 5, image_queries: 5 * 12 * 2 });
  });
});

describe('pixels', () => {
  let adapter: string;
  /** As many pixels as one image may have, in few bytes. */
  let largest: Buffer;

  beforeAll(async () => {
    const width = 10_000;
    const height = DEFAULT_DATASET_LIMITS.maxImagePixels / width;
    largest = await sharp({ create: { width, height, channels: 3, background: 'white' } })
      .png({ palette: true, compressionLevel: 9 })
      .toBuffer();
    const { id } = await createJob(service, quickJob(file));
    adapter = (
      await until(async () => {
        const job = await ok<JobAnswer>(service.request('GET', `${JOBS}/${id}`));
        return job.status === 'succeeded' && job;
      })
    ).fine_tuned_model!;
  });

  it('are taken by the reference provider as they are at upload', async () => {
    const images = [dataUri(largest)];
    expect(
      (await ok<Prediction>(service.request('POST', `/v1/adapters/${adapter}/predict`, { images }))).data,
    ).toHaveLength(1);
  });

  it('of a request have a limit, as JSON and as a form', async () => {
    const count = Math.floor(MAX_REQUEST_PIXELS / DEFAULT_DATASET_LIMITS.maxImagePixels) + 1;
    const images = new Array<string>(count).fill(dataUri(largest));
    const path = `/v1/adapters/${adapter}/predict`;
    const form = images.map(() => ({ name: 'images', value: largest, filename: 'a.png' }));
    for (const response of [
      await service.request('POST', path, { images }),
      await sendForm(service, path, form),
      await service.request('POST', `/v1/providers/${smallId}/zero_shot`, { images, labels: ['a', 'b'] }),
    ]) {
      const error = await errorOf(response, 413);
      expect(error).toMatchObject({ code: 'too_many_pixels', param: 'images' });
      expect(error.message).toContain('send fewer in a request');
    }
  });
});
