import { createHash } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import fc from 'fast-check';
import { beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { type EmbeddingSource, ImageEmbeddings, missingImageCalls } from '../../src/embeddings/image-embeddings.js';
import { newId } from '../../src/ids.js';
import { Ledger } from '../../src/ledger/ledger.js';
import type { PaidEmbeddings, ReservationRequest } from '../../src/ledger/reservation.js';
import { createProvider, createRunningJob } from '../helpers/ledger-records.js';
import { type TestDatabase, testDatabase } from '../helpers/postgres.js';

let db: TestDatabase;
let ledger: Ledger;
let store: ImageEmbeddings;
let source: EmbeddingSource;
let jobId: string;

beforeAll(async () => {
  db = await testDatabase();
  ledger = new Ledger(db.database, db.connectionString);
  store = new ImageEmbeddings(db.database);
  return () => ledger.close();
});

beforeEach(async () => {
  source = { id: newId('prov-'), imageSpace: 'clip-512' };
  await createProvider(db.database, ledger, source.id);
  jobId = await createRunningJob(db.database, ledger, source.id);
});

function image(name: string) {
  const sha256 = createHash('sha256').update(name).digest('hex');
  return { sha256, size: name.length, bytes: async () => Buffer.from(name) };
}

function request(chunk = 0, epoch = 1): ReservationRequest {
  return {
    accountId: jobId,
    providerId: source.id,
    purpose: 'images',
    amounts: { promptEvaluations: 0, imageQueries: 2, requests: 1, costMicroUsd: 0 },
    guard: { kind: 'running_job', epoch },
    generation: 0,
    chunk,
    worker: 'test',
  };
}

/** Rows of two numbers each, one for each name. */
function embeddings(names: string[], rows: number[], space = source.imageSpace): PaidEmbeddings {
  return {
    space,
    images: names.map((name) => image(name).sha256),
    values: new Uint8Array(Float32Array.from(rows).buffer),
  };
}

const load = (...names: string[]) => store.load(source, names.map(image));
const stored = () => db.database.imageEmbedding.count({ where: { providerId: source.id } });

describe('embeddings of images', () => {
  it('are kept with the settlement of the call that brought them, each by its image', async () => {
    const kept = embeddings(['a', 'b'], [1, 2, 3, 4]);
    expect(await ledger.settle(await ledger.reserve(request()), { embeddings: kept })).toBe(true);
    expect(await load('b', 'a', 'b')).toEqual({ values: Float32Array.of(3, 4, 1, 2, 3, 4), width: 2 });
    expect(await store.known(source, ['a', 'c', 'b'].map(image))).toEqual(new Set(kept.images));
    await expect(load('a', 'c')).rejects.toThrow('is gone');
    // They are no answer to a call of a generation.
    expect(await db.database.storedAnswer.count({ where: { jobId } })).toBe(0);
  });

  it('are kept once, as they came first', async () => {
    const reservation = await ledger.reserve(request());
    await ledger.settle(reservation, { embeddings: embeddings(['a'], [1, 2]) });
    await ledger.settle(reservation, { embeddings: embeddings(['a'], [5, 6]) });
    await ledger.settle(await ledger.reserve(request(1)), { embeddings: embeddings(['a', 'b'], [7, 8, 9, 10]) });
    expect(await load('a', 'b')).toEqual({ values: Float32Array.of(1, 2, 9, 10), width: 2 });
    expect(await stored()).toBe(2);
  });

  it('are kept where many calls are settled at once, beside answers', async () => {
    const reservations = await Promise.all(Array.from({ length: 20 }, (_, chunk) => ledger.reserve(request(chunk))));
    await Promise.all(
      reservations.map((reservation, i) => {
        if (i % 4 === 3) {
          const logits = new Uint8Array(Float32Array.of(i, i).buffer);
          return ledger.settle(reservation, { answer: { callHash: new Uint8Array(32).fill(i), logits } });
        }
        // Some images of each call are in the next one, too.
        const names = [`image ${i}`, `image ${i + 1}`];
        return ledger.settle(reservation, { embeddings: embeddings(names, [i, 1, i + 1, 1]) });
      }),
    );
    for (let i = 0; i < 19; i++) expect(await load(`image ${i}`)).toEqual({ values: Float32Array.of(i, 1), width: 2 });
    const answers = await db.database.storedAnswer.findMany({ where: { jobId }, orderBy: { chunk: 'asc' } });
    expect(answers.map(({ chunk, logits }) => [chunk, new Float32Array(logits.slice().buffer)[0]])).toEqual(
      [3, 7, 11, 15, 19].map((chunk) => [chunk, chunk]),
    );
  });

  it.each([
    [
      'that a successor has taken over',
      async () => {
        await db.database.job.update({ where: { id: jobId }, data: { epoch: 2 } });
        await ledger.leaveUnknownBefore(jobId, 2);
      },
    ],
    [
      'that was cancelled',
      async () => {
        await db.database.job.update({ where: { id: jobId }, data: { status: 'cancelled' } });
        await ledger.leaveUnknownOf(jobId);
      },
    ],
  ])('are kept though they come to a job %s: they were paid for', async (_, lose) => {
    const reservation = await ledger.reserve(request());
    await lose();
    const late = { embeddings: embeddings(['a'], [1, 2]), billed: { imageQueries: 9, requests: 9, costMicroUsd: 9 } };
    expect(await ledger.settle(reservation, late)).toBe(false);
    expect(await load('a')).toEqual({ values: Float32Array.of(1, 2), width: 2 });
    // What the reservation counts for stays as it was closed.
    expect((await ledger.balance(jobId)).imageQueries).toMatchObject({ used: 2, reserved: 0 });
    expect(await ledger.discrepancies()).toEqual([]);
  });

  it('are those of one provider and one space', async () => {
    await ledger.settle(await ledger.reserve(request()), { embeddings: embeddings(['a'], [1, 2]) });
    await ledger.settle(await ledger.reserve(request(1)), { embeddings: embeddings(['a'], [1, 2, 3], 'clip-3') });
    expect(await load('a')).toEqual({ values: Float32Array.of(1, 2), width: 2 });
    expect(await store.load({ ...source, imageSpace: 'clip-3' }, [image('a')])).toMatchObject({ width: 3 });
    await expect(store.load({ ...source, id: 'prov-other' }, [image('a')])).rejects.toThrow('is gone');
    expect(await store.known({ ...source, imageSpace: 'other' }, [image('a')])).toEqual(new Set());
  });

  it('of different lengths are no set', async () => {
    await ledger.settle(await ledger.reserve(request()), { embeddings: embeddings(['a'], [1, 2]) });
    await ledger.settle(await ledger.reserve(request(1)), { embeddings: embeddings(['b'], [1, 2, 3]) });
    expect(await load('a', 'b')).toBeNull();
  });

  it('of no images are a set', async () => {
    expect(await load()).toEqual({ values: new Float32Array(0), width: 0 });
    expect(await store.known(source, [])).toEqual(new Set());
  });

  it('stay as long as they are used', async () => {
    await ledger.settle(await ledger.reserve(request()), { embeddings: embeddings(['used'], [1, 2]) });
    const longAgo = new Date(Date.now() - 89 * 24 * 60 * 60 * 1000);
    await db.database.imageEmbedding.updateMany({ where: { providerId: source.id }, data: { usedAt: longAgo } });
    await load('used');
    const [{ usedAt }] = await db.database.imageEmbedding.findMany({ where: { providerId: source.id } });
    expect(usedAt.getTime()).toBeGreaterThan(longAgo.getTime());
  });

  it('go after ninety days', async () => {
    await ledger.settle(await ledger.reserve(request()), { embeddings: embeddings(['old', 'new'], [1, 2, 3, 4]) });
    const day = 24 * 60 * 60 * 1000;
    const age = (name: string, days: number) =>
      db.database.imageEmbedding.updateMany({
        where: { providerId: source.id, sha256: new Uint8Array(Buffer.from(image(name).sha256, 'hex')) },
        data: { usedAt: new Date(Date.now() - days * day) },
      });
    await age('old', 91);
    await age('new', 89);
    expect(await store.dropOld()).toBe(1);
    expect(await store.known(source, ['old', 'new'].map(image))).toEqual(new Set([image('new').sha256]));
  });
});

describe('those who bring embeddings at the same time', () => {
  const limits = { promptsPerRequest: 1, imagesPerRequest: 2 };
  let brought: string[];

  beforeEach(() => {
    brought = [];
  });

  /** Brings images as somebody; each store is as another process's. */
  function bring(
    owner: string,
    names: string[],
    delayMs = 20,
    patienceMs?: number,
    claimSeconds?: number,
  ): Promise<void> {
    const images = names.map(image);
    const wanted = { images, sizes: images.map(({ size }) => size), limits, concurrency: 4 };
    return new ImageEmbeddings(db.database, claimSeconds).bring(source, wanted, { owner, patienceMs }, async (call) => {
      brought.push(...call.images.map(({ sha256 }) => sha256));
      const rows = call.images.map(() => new Uint8Array(Float32Array.of(1, 2).buffer));
      const reservation = await ledger.reserve(request(brought.length));
      await sleep(delayMs);
      const values = new Uint8Array(Buffer.concat(rows));
      const space = source.imageSpace;
      await ledger.settle(reservation, {
        embeddings: { space, images: call.images.map(({ sha256 }) => sha256), values },
      });
    });
  }

  it('bring each image once, whatever they share', async () => {
    const names = Array.from({ length: 12 }, (_, i) => `shared ${i}`);
    await Promise.all([
      bring('job 1', names),
      bring('job 2', [...names].reverse()),
      bring('prediction', [names[3]]),
      bring('job 3', names.slice(6)),
    ]);
    expect([...brought].sort()).toEqual(names.map((name) => image(name).sha256).sort());
    expect(await db.database.imageEmbeddingClaim.count({ where: { providerId: source.id } })).toBe(0);
  });

  it('do not wait for those who want other images', async () => {
    let released = () => {};
    const held = new Promise<void>((resolve) => {
      released = resolve;
    });
    const wanted = { images: [image('slow')], sizes: [4], limits, concurrency: 1 };
    const slow = store.bring(source, wanted, { owner: 'slow' }, async () => {
      await held;
      throw new Error('given up');
    });
    await bring('quick', ['another']);
    released();
    await expect(slow).rejects.toThrow('given up');
  });

  it('take over what one of them failed to bring', async () => {
    const wanted = { images: [image('fallen')], sizes: [4], limits, concurrency: 1 };
    let other = Promise.resolve();
    const failing = store.bring(source, wanted, { owner: 'failing' }, async () => {
      other = bring('other', ['fallen']);
      await sleep(100);
      throw new Error('the provider is gone');
    });
    await expect(failing).rejects.toThrow('the provider is gone');
    await other;
    expect(brought).toEqual([image('fallen').sha256]);
  });

  it('bring each image once, too, where a call takes longer than a claim: the provider was not there', async () => {
    await Promise.all([bring('job 1', ['late'], 5000, undefined, 3), bring('job 2', ['late'], 5000, undefined, 3)]);
    expect(brought).toEqual([image('late').sha256]);
  });

  it('go on after a crash with what was theirs, and others after a while', async () => {
    const claims = { providerId: source.id, space: source.imageSpace, expiresAt: new Date(Date.now() + 60_000) };
    const sha256 = (name: string) => new Uint8Array(Buffer.from(image(name).sha256, 'hex'));
    await db.database.imageEmbeddingClaim.create({ data: { ...claims, owner: 'job', sha256: sha256('own') } });
    await bring('job', ['own']);
    await db.database.imageEmbeddingClaim.create({ data: { ...claims, owner: 'dead', sha256: sha256('left') } });
    await expect(bring('job', ['left'], 0, 100)).rejects.toMatchObject({ code: 'embedding_under_way', status: 503 });
    await db.database.imageEmbeddingClaim.updateMany({ data: { expiresAt: new Date(Date.now() - 1000) } });
    await bring('job', ['left']);
    expect(await store.known(source, [image('own'), image('left')])).toHaveProperty('size', 2);
  });
});

describe('missingImageCalls', () => {
  const images = fc
    .array(fc.integer({ min: 0, max: 40 }), { maxLength: 40 })
    .map((list) => list.map((i) => image(`${i}`)));
  const limits = fc.record({ promptsPerRequest: fc.constant(1), imagesPerRequest: fc.integer({ min: 1, max: 9 }) });

  it('bring each image that is missing once, numbered as if none were there', () => {
    fc.assert(
      fc.property(images, limits, fc.func(fc.boolean()), (all, limited, isKnown) => {
        const sizes = all.map(({ size }) => size);
        const known = new Set(all.map(({ sha256 }) => sha256).filter((sha256) => isKnown(sha256)));
        const calls = missingImageCalls(all, sizes, known, limited);
        const asked = calls.flatMap((call) => call.images.map(({ sha256 }) => sha256));
        expect(new Set(asked).size).toBe(asked.length);
        const missing = all.map(({ sha256 }) => sha256).filter((sha256) => !known.has(sha256));
        expect(new Set(asked)).toEqual(new Set(missing));
        const chunkOf = new Map(
          missingImageCalls(all, sizes, new Set(), limited).flatMap((call) =>
            call.images.map(({ sha256 }) => [sha256, call.chunk] as const),
          ),
        );
        for (const call of calls) {
          expect(call.images.length).toBeGreaterThan(0);
          expect(call.images.length).toBeLessThanOrEqual(limited.imagesPerRequest);
          for (const { sha256 } of call.images) expect(chunkOf.get(sha256)).toBe(call.chunk);
        }
      }),
    );
  });
});
