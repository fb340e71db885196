import { type ChildProcess, spawn } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { pino } from 'pino';
import { afterEach, beforeAll, describe, expect, it } from 'vitest';
import { RepeatableRequests } from '../../src/adapters/repeatable-requests.js';
import { toDataUri } from '../../src/demo/example-data.js';
import {
  type Counts,
  createJob,
  errorOf,
  exampleImages,
  exportAdapter,
  misbehave,
  ok,
  quickJob,
  runJob,
  sendForm,
  served,
  servedDuring,
  until,
  uploadImages,
} from '../helpers/api.js';
import { firstLine } from '../helpers/postgres-process.js';
import { ProtocolJobs } from '../helpers/protocol-jobs.js';
import { API_KEY, type TestService, testService } from '../helpers/service.js';

/** Predictions with an Idempotency-Key are paid for once, however often they are sent. */

const PROGRAM = fileURLToPath(new URL('../../dist/main.js', import.meta.url));
/** Two processes read the provider's credentials. */
const SECRET = '5'.repeat(64);
const NOTHING: Counts = { prompt_evaluations: 0, image_queries: 0, requests: 0 };
let images: string[];
let keys = 0;
const newKey = () => `attempt-${++keys}`;

const processes: ChildProcess[] = [];
afterEach(() => {
  for (const child of processes.splice(0)) child.kill('SIGKILL');
});

beforeAll(async () => {
  images = (await exampleImages(3, 4, 'test')).map(({ bytes }) => toDataUri(bytes));
});

/** Has a process of its own asked, and kills it while the provider works on its first call. */
async function killedWhileAnswering(service: TestService, path: string, body: object, key: string): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), 'craft-killed-'));
  const child = spawn(process.execPath, [PROGRAM, 'api'], {
    env: {
      PATH: process.env.PATH,
      PORT: '0',
      CRAFT_DATA_DIR: folder,
      CRAFT_API_KEY: API_KEY,
      CRAFT_SECRET_KEY: SECRET,
      DATABASE_URL: service.core.connectionString,
      CRAFT_ALLOWED_NETWORKS: 'loopback',
      LOG_LEVEL: 'warn',
    },
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  processes.push(child);
  const [url] = /http:\S+/.exec(await firstLine(child))!;
  await misbehave(service, { hold_after: 0 });
  const headers = { authorization: `Bearer ${API_KEY}`, 'content-type': 'application/json', 'idempotency-key': key };
  const lost = fetch(url + path, { method: 'POST', headers, body: JSON.stringify(body) });
  lost.catch(() => {});
  await until(async () => service.provider.misbehaviour.status().held > 0);
  child.kill('SIGKILL');
  await expect(lost).rejects.toThrow();
  await misbehave(service);
  await rm(folder, { recursive: true });
}

describe.each([
  ['honours keys', true],
  ['knows no keys', false],
])('at a provider that %s', (_, idempotency) => {
  let service: TestService;
  let file: string;
  let adapter: string;
  let path: string;

  beforeAll(async () => {
    service = await testService({ CRAFT_SECRET_KEY: SECRET }, { idempotency });
    file = await uploadImages(service, await exampleImages(3, 4));
    adapter = (await runJob(service, quickJob(file))).fine_tuned_model!;
    path = `/v1/adapters/${adapter}/predict`;
  });

  const send = (key: string, of: string[], options: object = {}, where = path) =>
    service.request('POST', where, { images: of, ...options }, { 'idempotency-key': key });

  const imageQueries = async () => (await service.core.ledger.balance(adapter)).imageQueries;

  it('a repetition gets the first answer, and asks for nothing', async () => {
    const key = newKey();
    const first = await send(key, images.slice(0, 2), { black_box: true });
    expect(first.headers.get('idempotent-replayed')).toBeNull();
    const answer = await ok<{ usage: Counts }>(first);
    expect(answer.usage.image_queries).toBe(2);
    const used = await imageQueries();
    const { result: again, counts } = await servedDuring(service, () =>
      send(key, images.slice(0, 2), { black_box: true }),
    );
    expect(again.headers.get('idempotent-replayed')).toBe('true');
    expect(await ok(again)).toEqual(answer);
    expect(counts).toEqual(NOTHING);
    expect(await imageQueries()).toEqual(used);
  });

  it('a form is a repetition of the same images and options in JSON', async () => {
    const key = newKey();
    const answer = await ok(send(key, images.slice(0, 1), { top_k: 2 }));
    const form = new FormData();
    form.append('top_k', '2');
    form.append('images', new Blob([Buffer.from(images[0].split(',')[1], 'base64')]), 'image.png');
    const headers = { authorization: `Bearer ${API_KEY}`, 'idempotency-key': key };
    expect(await ok(fetch(service.url + path, { method: 'POST', headers, body: form }))).toEqual(answer);
    // Without the key it is a request of its own.
    const { counts } = await servedDuring(service, () =>
      sendForm(service, path, [
        { name: 'images', value: Buffer.from(images[0].split(',')[1], 'base64'), filename: 'image.png' },
      ]),
    );
    expect(counts.image_queries).toBe(1);
  });

  it('what the black box says by itself is repeated, too', async () => {
    const key = newKey();
    const { data } = await ok<{ data: { id: string }[] }>(service.request('GET', '/v1/providers'));
    const where = `/v1/providers/${data[0].id}/zero_shot`;
    const labels = ['flag', 'plant'];
    const first = await ok(send(key, images.slice(0, 1), { labels }, where));
    const { result, counts } = await servedDuring(service, () => ok(send(key, images.slice(0, 1), { labels }, where)));
    expect(result).toEqual(first);
    expect(counts).toEqual(NOTHING);
    expect(await errorOf(await send(key, images.slice(0, 1)), 409)).toMatchObject({ code: 'idempotency_key_reused' });
  });

  it('those that come at the same time are one', async () => {
    const key = newKey();
    const { result: answers, counts } = await servedDuring(service, () =>
      Promise.all(Array.from({ length: 6 }, () => send(key, images.slice(0, 3)))),
    );
    expect(counts).toEqual({ prompt_evaluations: 1, image_queries: 3, requests: 1 });
    const repeated = answers.filter(({ headers }) => headers.has('idempotent-replayed'));
    expect(repeated).toHaveLength(5);
    const [first, ...others] = await Promise.all(answers.map((answer) => ok(answer)));
    for (const other of others) expect(other).toEqual(first);
  });

  it('another request with the key is refused, and so is one with the key of a job', async () => {
    const key = newKey();
    await ok(send(key, images.slice(0, 1)));
    const others = [send(key, images.slice(1, 2)), send(key, images.slice(0, 1), { top_k: 1 })];
    for (const other of others) {
      const response = await other;
      expect(response.headers.get('x-should-retry')).toBe('false');
      expect(await errorOf(response, 409)).toMatchObject({ code: 'idempotency_key_reused', param: 'Idempotency-Key' });
    }
    const ofJob = newKey();
    const { id } = await createJob(service, quickJob(file), { 'idempotency-key': ofJob });
    expect(await errorOf(await send(ofJob, images.slice(0, 1)), 409)).toMatchObject({ code: 'idempotency_key_reused' });
    const reused = await service.request('POST', '/v1/fine_tuning/jobs', quickJob(file), { 'idempotency-key': key });
    expect(await errorOf(reused, 409)).toMatchObject({ code: 'idempotency_key_reused' });
    await service.finished(id);
  });

  it('one that its process is late with is answered by whoever takes it over, and by the late one', async () => {
    const key = newKey();
    const of = images.slice(0, 2);
    const [before, { used: usedBefore }] = [await served(service), await imageQueries()];
    await misbehave(service, { hold_after: 0 });
    const held = () => service.provider.misbehaviour.status().held;
    const late = send(key, of);
    await until(async () => held() === 1);
    await service.core.database.idempotentRequest.updateMany({ where: { key }, data: { claimedUntil: new Date(0) } });
    const next = send(key, of);
    await until(async () => held() === 2);
    await misbehave(service);
    expect(await ok(late)).toEqual(await ok(next));
    const asked = (await served(service)).image_queries - before.image_queries;
    expect(asked).toBe(idempotency ? 2 : 4);
    const { used, reserved } = await imageQueries();
    expect([used - usedBefore, reserved]).toEqual([asked, 0]);
  });

  it('one whose process is killed while images are embedded is answered by another', async () => {
    const key = newKey();
    const jobs = new ProtocolJobs(service, file);
    const settings = idempotency ? { idempotency: {} } : {};
    const where = `/v1/providers/${await jobs.register('embeddings', 'killed', settings)}/zero_shot`;
    const labels = ['flag', 'plant'];
    await jobs.reset();
    await killedWhileAnswering(service, where, { images: images.slice(0, 2), labels }, key);
    const { usage } = await ok<{ usage: Counts }>(send(key, images.slice(0, 2), { labels }, where));
    expect(usage.image_queries).toBe(2);
    const { image_queries, text_embeddings } = await jobs.served();
    expect(image_queries).toBeLessThanOrEqual(idempotency ? 2 : 4);
    expect(text_embeddings).toBe(2);
  });

  it('a request that was refused may be corrected under its key', async () => {
    const key = newKey();
    expect(await errorOf(await send(key, images.slice(0, 1), { views: 2 }), 400)).toMatchObject({ param: 'views' });
    await ok(send(key, images.slice(0, 1)));
  });

  it('a key that cannot be one is refused in words', async () => {
    for (const key of ['', 'k'.repeat(256)]) {
      expect(await errorOf(await send(key, images.slice(0, 1)), 400)).toMatchObject({
        param: 'idempotency-key',
        message: expect.stringContaining('Send 1 to 255 characters'),
      });
    }
  });

  it('one that failed half-way pays only for the rest', async () => {
    const { data } = await ok<{ data: { id: string; limits: { images_per_request: number } }[] }>(
      service.request('GET', '/v1/providers'),
    );
    const provider = `/v1/providers/${data[0].id}`;
    const { images_per_request } = data[0].limits;
    await ok(service.request('PATCH', provider, { limits: { images_per_request: 1 } }));
    // One that is not warm, whose provider is as it was.
    const exported = await exportAdapter(service, adapter);
    const parts = [{ name: 'file', value: exported, filename: 'adapter.safetensors' }];
    const { id } = await ok<{ id: string }>(sendForm(service, '/v1/adapters/import', parts));
    const used = async () => (await service.core.ledger.balance(id)).imageQueries.used;
    const where = `/v1/adapters/${id}/predict`;
    type Answer = { data: unknown; usage: Counts };
    const whole = await ok<Answer>(send(newKey(), images.slice(0, 5), {}, where));
    const key = newKey();
    await service.core.ledger.changeLimits(id, { imageQueries: 8 });
    expect((await errorOf(await send(key, images.slice(0, 5), {}, where), 402)).code).toMatch(/budget/);
    expect(await used()).toBe(8);
    await service.core.ledger.changeLimits(id, { imageQueries: null });
    const { result, counts } = await servedDuring(service, () => ok<Answer>(send(key, images.slice(0, 5), {}, where)));
    expect(counts).toEqual({ prompt_evaluations: 2, image_queries: 2, requests: 2 });
    expect(result).toEqual(whole);
    expect(whole.usage).toMatchObject({ image_queries: 5, requests: 5 });
    expect(await used()).toBe(10);
    expect(await service.core.database.answeredCall.count()).toBe(0);
    await ok(service.request('PATCH', provider, { limits: { images_per_request } }));
    expect(await service.core.ledger.discrepancies()).toEqual([]);
  });

  it('one whose process is killed while the provider answers is answered by another', async () => {
    const key = newKey();
    const before = await served(service);
    await killedWhileAnswering(service, path, { images: images.slice(0, 2) }, key);
    const { usage } = await ok<{ usage: Counts }>(send(key, images.slice(0, 2)));
    expect(usage.image_queries).toBe(2);
    const spent = (await served(service)).image_queries - before.image_queries;
    // Without keys, a call that was in flight when something died may be paid for again, and stays counted.
    expect(spent).toBeLessThanOrEqual(idempotency ? 2 : 4);
    // Settled by now; what the dead process left open is not.
    await imageQueries();
    await service.core.ledger.leaveUnknownOlderThan(0);
    const entries = await service.core.database.reservation.findMany({
      where: { accountId: adapter },
      orderBy: { id: 'desc' },
      take: 2,
    });
    expect(entries[0]).toMatchObject({ state: 'settled', attempt: idempotency ? 2 : 1, imageQueries: 2n });
    if (!idempotency) expect(entries[1]).toMatchObject({ state: 'unknown', imageQueries: 2n });
  });
});

describe('RepeatableRequests', () => {
  const log = pino({ level: 'silent' });
  let service: TestService;
  beforeAll(async () => {
    service = await testService();
  });
  const request = (key: string) => ({ apiKeyId: 'key-1', key, content: ['anything'] });
  const where = (key: string) => ({ apiKeyId_key: { apiKeyId: 'key-1', key } });

  it('refuses, for a while, what somebody else still works on', async () => {
    const { database } = service.core;
    const requests = new RepeatableRequests(database, log, { leaseMs: 60_000, patienceMs: 300 });
    let finish = (_: object) => {};
    const first = requests.answer(request('slow'), () => new Promise<object>((resolve) => (finish = resolve)));
    await until(async () => (await database.idempotentRequest.count({ where: { key: 'slow' } })) === 1);
    await expect(requests.answer(request('slow'), async () => ({ second: true }))).rejects.toMatchObject({
      status: 409,
      code: 'request_in_progress',
      retryAfterSeconds: 2,
    });
    finish({ first: true });
    expect(await first).toEqual({ answer: { first: true }, isRepeated: false });
    expect(await requests.answer(request('slow'), async () => ({ second: true }))).toEqual({
      answer: { first: true },
      isRepeated: true,
    });
  });

  it('believes a process that shows signs of life, and not one that shows none', async () => {
    const { database } = service.core;
    const requests = new RepeatableRequests(database, log, { leaseMs: 1500, patienceMs: 60_000 });
    let finish = (_: object) => {};
    const frozen = requests.answer(request('frozen'), () => new Promise<object>((resolve) => (finish = resolve)));
    const row = () => database.idempotentRequest.findUnique({ where: where('frozen') });
    await until(row);
    const { claimedUntil } = (await row())!;
    await until(async () => (await row())!.claimedUntil! > claimedUntil!);
    // As one that is frozen leaves it.
    await database.idempotentRequest.update({
      where: where('frozen'),
      data: { claimedBy: 'somebody', claimedUntil: new Date(0) },
    });
    expect(await requests.answer(request('frozen'), async () => ({ second: true }))).toMatchObject({
      answer: { second: true },
    });
    finish({ first: true });
    expect(await frozen).toMatchObject({ answer: { first: true } });
    expect((await row())!.response).toEqual({ second: true });
  });

  it('is let go at once after a failure, also where a sign of life is still on its way then', async () => {
    const { database } = service.core;
    let statements = 0;
    const slow = new Proxy(database, {
      get(target, name) {
        if (name !== '$executeRaw') return Reflect.get(target, name);
        return async (...args: Parameters<typeof database.$executeRaw>) => {
          // The first one takes the claim.
          if (++statements === 2) await sleep(600);
          return target.$executeRaw(...args);
        };
      },
    });
    const requests = new RepeatableRequests(slow, log, { leaseMs: 3000, patienceMs: 300 });
    const hash = new Uint8Array(32);
    const failing = requests.answer(request('failing'), async (calls) => {
      const usage = { promptEvaluations: 1, imageQueries: 1, requests: 1, costMicroUsd: 0 };
      await calls.keep(0, hash, { answer: new Float32Array([1.5]), usage });
      await sleep(1300);
      throw new Error('no');
    });
    await expect(failing).rejects.toThrow('no');
    await sleep(600);
    expect(statements).toBeGreaterThan(1);
    const again = await requests.answer(request('failing'), async (calls) => ({
      known: [...(await calls.find(0, hash))!.answer],
    }));
    expect(again).toEqual({ answer: { known: [1.5] }, isRepeated: false });
  });

  it('forgets answers when they expire, and those of jobs never', async () => {
    const { database } = service.core;
    const requests = new RepeatableRequests(database, log);
    await requests.answer(request('old'), async () => ({ first: true }));
    await requests.answer(request('new'), async () => ({ first: true }));
    await database.idempotentRequest.update({ where: where('old'), data: { expiresAt: new Date(0) } });
    await database.idempotentRequest.create({
      data: {
        apiKeyId: 'key-1',
        key: 'job',
        requestHash: new Uint8Array(32),
        status: 200,
        response: { id: 'ftjob-1' },
      },
    });
    expect(await requests.dropOld()).toBe(1);
    const left = await database.idempotentRequest.findMany({ where: { key: { in: ['old', 'new', 'job'] } } });
    expect(left.map(({ key }) => key).sort()).toEqual(['job', 'new']);
  });
});
