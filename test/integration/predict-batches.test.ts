import { setTimeout as sleep } from 'node:timers/promises';
import { beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { ApiKeys } from '../../src/access/api-keys.js';
import { toDataUri } from '../../src/demo/example-data.js';
import { DEFAULT_PROJECT } from '../../src/ledger/accounts.js';
import {
  type Counts,
  errorOf,
  exampleImages,
  misbehave,
  ok,
  quickJob,
  runJob,
  sendForm,
  servedDuring,
  uploadImages,
} from '../helpers/api.js';
import { type TestService, testService } from '../helpers/service.js';

/** Predictions at the same time share provider calls, and the books say so. */

interface Prediction {
  data: { predictions: { label: string; score: number }[] }[];
  usage: Counts & { cost_usd: number };
}

const CALLERS = 12;
const OTHER_KEY = 'ck-another-key-9876543210';

let service: TestService;
let adapter: string;
let path: string;
let images: string[];
let alone: Prediction[];

async function startWith(environment: Record<string, string>) {
  const started = await testService(environment);
  const trained = await runJob(started, quickJob(await uploadImages(started, await exampleImages(3, 4))));
  expect(trained.status).toBe('succeeded');
  return { started, id: trained.fine_tuned_model! };
}

beforeAll(async () => {
  // A window wide enough for a machine that is busy: what is sent together is read together.
  const { started, id } = await startWith({ CRAFT_PREDICT_BATCH_MS: '1000' });
  service = started;
  adapter = id;
  path = `/v1/adapters/${adapter}/predict`;
  const keys = new ApiKeys(service.core.database);
  await keys.ensure(OTHER_KEY, 'second key');
  images = (await exampleImages(3, 4, 'test')).map(({ bytes }) => toDataUri(bytes));
  alone = await Promise.all(
    images.map(async (image, i) => {
      const key = `ck-alone-with-image-${i}`;
      await keys.ensure(key, `key ${i}`);
      return predict([image], { authorization: `Bearer ${key}` });
    }),
  );
});

// A smaller crowd that is remembered, for 200 ms at most, would be sent before all have come.
beforeEach(() => sleep(250));

const predict = (of: string[], headers: Record<string, string> = {}, at = service, where = path) =>
  ok<Prediction>(at.request('POST', where, { images: of }, headers));

/** What every account of the adapter's calls holds as used. */
async function used(at = service, id = adapter) {
  const balances = await at.core.ledger.balances([id, DEFAULT_PROJECT]);
  return [id, DEFAULT_PROJECT].map((account) => {
    const { imageQueries, requests, promptEvaluations } = balances.get(account)!;
    return {
      image_queries: imageQueries.used,
      requests: requests.used,
      prompt_evaluations: promptEvaluations.used,
      reserved: imageQueries.reserved + requests.reserved,
    };
  });
}

const total = (answers: Prediction[], unit: keyof Counts) => answers.reduce((sum, { usage }) => sum + usage[unit], 0);

describe('predictions at the same time', () => {
  it('are one call, of which each is answered and charged its own part', async () => {
    const before = await used();
    const { result: answers, counts } = await servedDuring(service, () =>
      Promise.all(images.slice(0, CALLERS).map((image) => predict([image]))),
    );
    expect(counts).toEqual({ prompt_evaluations: 1, image_queries: CALLERS, requests: 1 });
    expect(answers.map(({ data }) => data)).toEqual(alone.map(({ data }) => data));
    for (const unit of ['prompt_evaluations', 'image_queries', 'requests'] as const)
      expect(total(answers, unit)).toBe(counts[unit]);
    for (const [i, account] of (await used()).entries()) {
      expect(account.image_queries - before[i].image_queries).toBe(CALLERS);
      expect(account.requests - before[i].requests).toBe(1);
      expect(account.reserved).toBe(0);
    }
    const [entry] = await service.core.database.reservation.findMany({
      where: { accountId: adapter },
      orderBy: { id: 'desc' },
      take: 1,
    });
    expect(entry).toMatchObject({ state: 'settled', imageQueries: BigInt(CALLERS), purpose: 'predict' });
    expect(await service.core.ledger.discrepancies()).toEqual([]);
  });

  it('pay for equal images once, in JSON and in forms', async () => {
    const bytes = Buffer.from(images[0].split(',')[1], 'base64');
    const part = { name: 'images', value: bytes, filename: 'a.png' };
    const { result: answers, counts } = await servedDuring(service, () =>
      Promise.all([
        ...Array.from({ length: 4 }, () => predict([images[0]])),
        predict([images[0], images[1], images[0]]),
        ...Array.from({ length: 3 }, () => ok<Prediction>(sendForm(service, path, [part]))),
      ]),
    );
    expect(counts).toEqual({ prompt_evaluations: 1, image_queries: 2, requests: 1 });
    expect(total(answers, 'image_queries')).toBe(2);
    expect(answers.filter(({ usage }) => usage.image_queries === 0).length).toBeGreaterThanOrEqual(6);
    for (const { data } of answers) expect(data[0]).toEqual(alone[0].data[0]);
    expect(answers[4].data).toEqual([alone[0].data[0], alone[1].data[0], alone[0].data[0]]);
  });

  it('of two API keys are two calls, each under its key', async () => {
    const headers = { authorization: `Bearer ${OTHER_KEY}` };
    const { counts } = await servedDuring(service, () =>
      Promise.all(images.slice(0, 6).map((image, i) => predict([image], i % 3 === 0 ? headers : {}))),
    );
    expect(counts).toEqual({ prompt_evaluations: 2, image_queries: 6, requests: 2 });
    const entries = await service.core.database.reservation.findMany({
      where: { accountId: adapter },
      orderBy: { id: 'desc' },
      take: 2,
    });
    expect(new Set(entries.map(({ apiKeyId }) => apiKeyId)).size).toBe(2);
    expect(entries.map(({ imageQueries }) => Number(imageQueries)).sort()).toEqual([2, 4]);
  });

  it('are not spoilt by one whose image is no image', async () => {
    const bad = `data:image/png;base64,${Buffer.from('no image').toString('base64')}`;
    const [refused, ...answers] = await Promise.all([
      service.request('POST', path, { images: [images[0], bad] }),
      ...images.slice(1, 5).map((image) => predict([image])),
    ]);
    expect(await errorOf(refused, 400)).toMatchObject({ param: 'images.1' });
    expect(answers.map(({ data }) => data)).toEqual(alone.slice(1, 5).map(({ data }) => data));
  });

  it('fail together where the provider does, and nothing stays reserved', async () => {
    await misbehave(service, { fail_next: [{ kind: '500', count: 3 }] });
    const answers = await Promise.all(
      images.slice(0, 4).map((image) => service.request('POST', path, { images: [image] })),
    );
    for (const answer of answers) expect(await errorOf(answer, 502)).toMatchObject({ code: 'provider_unavailable' });
    await misbehave(service);
    for (const { reserved } of await used()) expect(reserved).toBe(0);
  });

  it('are answered as far as the budget goes', async () => {
    const [{ image_queries: spent }] = await used();
    await service.core.ledger.changeLimits(adapter, { imageQueries: spent + 3 });
    const { result: answers, counts } = await servedDuring(service, () =>
      Promise.all(images.slice(0, 5).map((image) => service.request('POST', path, { images: [image] }))),
    );
    await service.core.ledger.changeLimits(adapter, { imageQueries: null });
    expect(answers.map(({ status }) => status).sort()).toEqual([200, 200, 200, 402, 402]);
    expect(counts.image_queries).toBe(3);
  });
});

describe('with batching off', () => {
  it('every prediction is a call of its own, with each image once', async () => {
    const { started, id } = await startWith({ CRAFT_PREDICT_BATCH_MS: '0' });
    const where = `/v1/adapters/${id}/predict`;
    const { result: answers, counts } = await servedDuring(started, () =>
      Promise.all(images.slice(0, 5).map((image) => predict([image, image], {}, started, where))),
    );
    expect(counts).toEqual({ prompt_evaluations: 5, image_queries: 5, requests: 5 });
    for (const { data } of answers) expect(data[1]).toEqual(data[0]);
    for (const { usage } of answers) expect(usage).toMatchObject({ image_queries: 1, requests: 1 });
    expect((await used(started, id))[0]).toMatchObject({ image_queries: 5, requests: 5, reserved: 0 });
  });
});
