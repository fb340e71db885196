import sharp from 'sharp';
import { beforeAll, describe, expect, it } from 'vitest';
import { type ExampleImage, toJsonl } from '../../src/demo/example-data.js';
import { exampleImages, ok } from '../helpers/api.js';
import { economyJob, predict, runEconomyJob } from '../helpers/economy-jobs.js';
import { ProtocolJobs } from '../helpers/protocol-jobs.js';
import { type TestService, testService } from '../helpers/service.js';

/** What economy jobs leave out, because it is paid for already or makes no adapter better. */

const CLASSES = 3;
const SHOTS = 4;
const N = CLASSES * SHOTS;

let service: TestService;
let images: ExampleImage[];

beforeAll(async () => {
  service = await testService();
  images = await exampleImages(CLASSES, SHOTS);
});

const upload = async (of: ExampleImage[]) =>
  (await ok<{ id: string; report: { duplicates: number } }>(service.upload(toJsonl(of)))).id;

describe('copies of an image', () => {
  it('are asked about once, and train the adapter that the image alone trains', async () => {
    const alone = await upload(images);
    const copied = await upload([...images, ...images.slice(0, 5), ...images.slice(0, 2)]);
    const budget = { max_image_queries: 2 * N };
    const [first, second] = [
      await runEconomyJob(service, economyJob(alone, { budget })),
      await runEconomyJob(service, economyJob(copied, { budget })),
    ];
    expect(second.counts).toEqual(first.counts);
    expect(second.job.plan).toMatchObject({ training_images: N, total: first.job.plan.total });
    const asked = await exampleImages(CLASSES, 2, 'test');
    const [one, other] = [
      await predict(service, first.job.fine_tuned_model, asked),
      await predict(service, second.job.fine_tuned_model, asked),
    ];
    expect(other.data).toEqual(one.data);
  });
});

describe('views and their mirror images', () => {
  it('are all different ones, in training and in predictions', async () => {
    // Without transparency, which some transforms replace, the same pixels are the same bytes.
    const opaque = await Promise.all(
      images.map(async (one) => ({
        ...one,
        bytes: await sharp(one.bytes).flatten({ background: '#fff' }).png().toBuffer(),
      })),
    );
    const file = await upload(opaque);
    const jobs = new ProtocolJobs(service, file);
    await jobs.register('embeddings', 'ask-once-embeds');
    await jobs.reset();
    const budget = { max_image_queries: 4 * N };
    const request = economyJob(file, { budget, prediction_queries: 2 }, { model: 'ask-once-embeds' });
    const { job } = await runEconomyJob(service, request);
    expect(job.progress.generation).toBe(4);
    // What was embedded before costs nothing here, so that each image query was another image.
    expect((await jobs.served()).image_queries).toBe(4 * N);
    const [image] = opaque;
    // Two of these three views were asked about in training.
    const { usage } = await predict(service, job.fine_tuned_model, [image], { views: 3 });
    expect(usage.image_queries).toBe(2);
  });
});

describe('validation images', () => {
  const V = CLASSES;
  const job = (file: string, max_image_queries: number, craft: Record<string, unknown> = {}) =>
    economyJob(file, { validation_fraction: 0.25, budget: { max_image_queries }, ...craft });

  it('are left out where the budget pays for the training images only', async () => {
    const file = await upload(images);
    const { job: both } = await runEconomyJob(service, job(file, N));
    expect(both.plan).toMatchObject({ training_images: N - V, validation_images: V });

    const { job: one, counts } = await runEconomyJob(service, job(file, N - 1));
    expect(one).toMatchObject({ status: 'succeeded', plan: { training_images: N - V, validation_images: 0 } });
    expect(one.plan.strategy_reason).toContain('nothing left for the validation images');
    expect(counts.image_queries).toBe(N - V);

    const { job: few } = await runEconomyJob(service, job(file, N - V - 1));
    expect(few).toMatchObject({ plan: { training_images: 2 * CLASSES, validation_images: 0 } });
    expect(few.plan.strategy_reason).toMatch(/pays for 2 shots .* nothing left for the validation images/);
  });

  it('are kept where they choose the adapter', async () => {
    const file = await upload(images);
    const chosen = job(file, N - 1, { checkpoint_selection: 'best_validation' });
    const { job: done } = await runEconomyJob(service, chosen);
    expect(done).toMatchObject({ plan: { training_images: 2 * CLASSES, validation_images: V } });
  });
});
