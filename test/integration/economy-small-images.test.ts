import { randomBytes } from 'node:crypto';
import sharp from 'sharp';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { ok, uploadImages } from '../helpers/api.js';
import { runEconomyJob } from '../helpers/economy-jobs.js';
import { ScriptedServer } from '../helpers/scripted-server.js';
import { type TestService, testService } from '../helpers/service.js';

/** Icons, of which views of parts that are drawn at random would often be the same. */

const CLASSES = ['dots', 'lines'];
const SHOTS = 6;
const VIEWS = 8;

let service: TestService;
let blackBox: ScriptedServer;
const asked: string[] = [];

beforeAll(async () => {
  service = await testService();
  blackBox = await ScriptedServer.start();
  blackBox.play((_, response, body) => {
    asked.push(body.toString());
    const { texts } = JSON.parse(body.toString()) as { texts: string[] };
    // No answer is the same as another, so that the head has something to learn from each.
    response.setHeader('content-type', 'application/json');
    response.end(JSON.stringify({ scores: texts.map(() => randomBytes(1)[0] / 64) }));
  });
});

afterAll(() => blackBox.close());

it('asks about no view of an icon twice', async () => {
  await ok(
    service.request('POST', '/v1/providers', {
      name: 'icons',
      protocol: 'custom_http',
      base_url: blackBox.url,
      remote_model: 'icons',
      settings: {
        body: { image: '{{image_base64}}', texts: '{{texts}}' },
        result: { kind: 'logits', scores: '$.scores' },
      },
    }),
  );
  const size = 18;
  const images = await Promise.all(
    Array.from({ length: CLASSES.length * SHOTS }, async (_, at) => {
      const raw = { width: size, height: size, channels: 3 } as const;
      const bytes = await sharp(randomBytes(3 * size * size), { raw })
        .png()
        .toBuffer();
      return { path: `${at}.png`, label: CLASSES[at % CLASSES.length], bytes };
    }),
  );
  const file = await uploadImages(service, images);
  const { job } = await runEconomyJob(service, {
    model: 'icons',
    training_file: file,
    seed: 1,
    method: {
      type: 'craft',
      craft: { strategy: 'economy', views: VIEWS, budget: { max_image_queries: VIEWS * images.length } },
    },
  });
  expect(job).toMatchObject({ status: 'succeeded', error: null });
  expect(job.budget.image_queries.used).toBe(asked.length);
  expect(asked.length).toBeGreaterThan(4 * images.length);
  expect(new Set(asked).size).toBe(asked.length);
});
