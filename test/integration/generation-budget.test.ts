import { beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { newId } from '../../src/ids.js';
import { GenerationBudget, type GenerationBudgetOptions } from '../../src/jobs/generation-budget.js';
import { generationCalls, planTraining } from '../../src/jobs/plan.js';
import { purchaseKey, StoredAnswers } from '../../src/jobs/stored-answers.js';
import { NO_LIMITS, type QueryLimits } from '../../src/ledger/accounts.js';
import { Ledger } from '../../src/ledger/ledger.js';
import type { Reservation } from '../../src/ledger/reservation.js';
import { amountsOfCall } from '../../src/providers/amounts.js';
import type { CallRange } from '../../src/providers/calls.js';
import type { ScoringProvider } from '../../src/providers/provider.js';
import { createProvider, createRunningJob } from '../helpers/ledger-records.js';
import { type TestDatabase, testDatabase } from '../helpers/postgres.js';

/** 6 images, 4 candidates of which a call takes 2, and no validation: 2 calls for the candidates and 1 for the centre. */
const IMAGES = 6;
const CALLS = { promptsPerRequest: 2, imagesPerRequest: 100 };
const TEXTS = { classes: { names: ['cat', 'dog'] }, templateBytes: 0 };
const PRICES = {
  perRequestNanoUsd: 0n,
  perImageQueryNanoUsd: 0n,
  perInputTokenPicoUsd: 0n,
  perOutputTokenPicoUsd: 0n,
};
const GENERATION = 3;

let db: TestDatabase;
let ledger: Ledger;
let jobId: string;
let provider: ScoringProvider;

beforeAll(async () => {
  db = await testDatabase();
  ledger = new Ledger(db.database, db.connectionString);
  return () => ledger.close();
});

beforeEach(async () => {
  const id = newId('prov-');
  await createProvider(db.database, ledger, id);
  provider = {
    id,
    accountFingerprint: 'abc',
    prices: PRICES,
    capabilities: { idempotency: { header: 'Idempotency-Key', windowSeconds: 3600 } },
  } as Partial<ScoringProvider> as ScoringProvider;
});

async function job(limits: Partial<QueryLimits>): Promise<void> {
  jobId = await createRunningJob(db.database, ledger, provider.id, { ...NO_LIMITS, ...limits });
}

const input = {
  space: 'soft' as const,
  populationSize: 4,
  trainingImages: new Array<number>(IMAGES).fill(10),
  validationImages: [],
  calls: CALLS,
};
const calls: CallRange[] = generationCalls({ ...input, classCount: 2 });

async function budget(changes: Partial<GenerationBudgetOptions> = {}): Promise<GenerationBudget> {
  const none = { images: [], labels: new Int32Array(0) };
  const training = Array.from({ length: IMAGES }, () => ({
    sha256: '',
    size: 10,
    bytes: async () => Buffer.alloc(10),
  }));
  return new GenerationBudget({
    jobId,
    database: db.database,
    ledger,
    provider,
    images: {
      classes: ['cat', 'dog'],
      descriptions: [null, null],
      training: { images: training, labels: new Int32Array(IMAGES) },
      validation: none,
    },
    texts: TEXTS,
    plan: planTraining({
      ...input,
      texts: TEXTS,
      limits: { ...NO_LIMITS, promptEvaluations: 50 },
      provider: { ...provider, requestsPerSecond: null },
    }),
    answers: await StoredAnswers.open(db.database, jobId),
    space: 'soft',
    recorded: GENERATION - 1,
    ...changes,
  });
}

/** What an earlier run of the job has drawn for a call. */
function draw(call: CallRange, generation = GENERATION, useless = 0): Promise<Reservation> {
  const hash = new Uint8Array(32).fill(call.chunk);
  return ledger.reserve({
    accountId: jobId,
    providerId: provider.id,
    purpose: 'candidates',
    amounts: amountsOfCall(provider, call, TEXTS),
    guard: { kind: 'running_job', epoch: 1 },
    generation,
    chunk: call.chunk,
    worker: 'test',
    purchase: {
      key: purchaseKey(jobId, provider, { generation, chunk: call.chunk, hash }, useless),
      windowSeconds: 3600,
    },
  });
}

const SHORT = { code: 'budget_exhausted', param: 'max_image_queries' };

describe('the budget of a generation', () => {
  it('has to pay for all of its calls', async () => {
    await job({ imageQueries: 5 * IMAGES });
    await expect((await budget()).require(GENERATION, 4)).resolves.toBeUndefined();
    await job({ imageQueries: 5 * IMAGES - 1 });
    await expect((await budget()).require(GENERATION, 4)).rejects.toMatchObject({
      ...SHORT,
      shortage: { needed: 5 * IMAGES, remaining: 5 * IMAGES - 1 },
    });
  });

  it('need not pay for candidates that were scored before', async () => {
    await job({ imageQueries: 2 * IMAGES });
    await expect((await budget()).require(GENERATION, 1)).resolves.toBeUndefined();
    await expect((await budget()).require(GENERATION, 2)).rejects.toMatchObject(SHORT);
    await job({ imageQueries: 0 });
    await expect((await budget({ space: 'text' })).require(GENERATION, 0)).resolves.toBeUndefined();
  });

  it('need not pay again for calls that are answered', async () => {
    await job({ imageQueries: 5 * IMAGES });
    const reservation = await draw(calls[0]);
    const logits = new Uint8Array(Float32Array.of(1).buffer);
    await ledger.settle(reservation, { answer: { callHash: new Uint8Array(32), logits } });
    const resumed = await budget();
    for (let i = 0; i < 2; i++) await expect(resumed.require(GENERATION, 4)).resolves.toBeUndefined();
    await expect(resumed.require(GENERATION + 1, 4)).rejects.toMatchObject(SHORT);
  });

  it.each([
    ['open', async () => {}],
    ['settled', (reservation: Reservation) => ledger.settle(reservation)],
    ['unknown', (reservation: Reservation) => ledger.leaveUnknown(reservation, 'provider_timeout')],
  ])('need not pay again for what an earlier run has drawn and left %s', async (_, close) => {
    await job({ imageQueries: 5 * IMAGES });
    await close(await draw(calls[1]));
    // Its record may not have been written, nor that of the generation before.
    for (const recorded of [GENERATION - 1, GENERATION - 2]) {
      await expect((await budget({ recorded })).require(GENERATION, 4)).resolves.toBeUndefined();
    }
    // That far an earlier run cannot have come.
    const recorded = GENERATION - 3;
    await expect((await budget({ recorded })).require(GENERATION, 4)).rejects.toMatchObject(SHORT);
  });

  it('pays again for what was released, for another generation and without idempotency keys', async () => {
    await job({ imageQueries: 5 * IMAGES });
    await ledger.release(await draw(calls[0]), 'provider_rate_limited');
    await expect((await budget()).require(GENERATION, 4)).resolves.toBeUndefined();
    await draw(calls[0], GENERATION - 1);
    await expect((await budget()).require(GENERATION, 4)).rejects.toMatchObject(SHORT);

    await job({ imageQueries: 5 * IMAGES });
    await draw(calls[0]);
    const capabilities = { ...provider.capabilities, idempotency: null };
    await expect(
      (await budget({ provider: { ...provider, capabilities } })).require(GENERATION, 4),
    ).rejects.toMatchObject(SHORT);
  });

  it('pays again for what was drawn so long ago that the provider may have forgotten its key', async () => {
    await job({ imageQueries: 5 * IMAGES });
    const { id } = await draw(calls[0]);
    const ago = new Date(Date.now() - 3500 * 1000);
    await db.database.reservation.update({ where: { id }, data: { createdAt: ago } });
    await expect((await budget()).require(GENERATION, 4)).rejects.toMatchObject(SHORT);
  });
});
