import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import type { Scored, ScoringOrder } from '../../../src/adapters/metered-scoring.js';
import { PredictBatches, shareOut } from '../../../src/adapters/predict-batches.js';
import { LimitReachedError, UNITS } from '../../../src/ledger/accounts.js';
import { addAmounts, amountsOfImages, NOTHING } from '../../../src/providers/amounts.js';
import type { Provider, ProviderImage, QueryAmounts } from '../../../src/providers/provider.js';
import { ProviderCallError } from '../../../src/providers/provider-call-error.js';

const CLASSES = ['cat', 'dog', 'hen'];

function provider(limits: Partial<Provider['limits']> = {}): Provider {
  return {
    kind: 'scoring',
    id: 'prov-1',
    name: 'box',
    capabilities: { returns: 'logits', contextTokens: 2, contextWidth: 4 },
    prices: {
      perRequestNanoUsd: 7_000n,
      perImageQueryNanoUsd: 3_000n,
      perInputTokenPicoUsd: 0n,
      perOutputTokenPicoUsd: 0n,
    },
    limits: {
      requestsPerSecond: null,
      concurrency: 2,
      imagesPerRequest: 4,
      promptsPerRequest: 1,
      maxRequestBytes: 1_000_000,
      ...limits,
    },
  } as unknown as Provider;
}

const image = (name: string, size = 100): ProviderImage => ({
  sha256: name,
  size,
  bytes: async () => Buffer.alloc(size),
});

/** Logits that tell the image: its name as a number, then the class. */
const logitsOf = (name: string) => CLASSES.map((_, c) => Number(name) * 10 + c);

/** Scores by name, once a call is let go; remembers what it was asked. */
function heldScoring(fail: (order: ScoringOrder) => Error | null = () => null) {
  const calls: { images: string[]; order: ScoringOrder; finish(): void }[] = [];
  let free = false;
  const score = async (order: ScoringOrder): Promise<Scored> => {
    const images = order.images.map(({ sha256 }) => sha256);
    await new Promise<void>((resolve) => {
      calls.push({ images, order, finish: resolve });
      if (free) resolve();
    });
    const error = fail(order);
    if (error) throw error;
    const usage = { ...amountsOfImages(order.provider, images.length), promptEvaluations: 1 };
    return { logits: Float32Array.from(images.flatMap(logitsOf)), usage };
  };
  const letGo = () => {
    free = true;
    for (const { finish } of calls) finish();
  };
  return { calls, score, letGo };
}

const BOX = provider();
const FREE_REQUESTS = provider();
Object.assign(FREE_REQUESTS.prices, { perRequestNanoUsd: 0n });
function order(images: ProviderImage[], overrides: Partial<ScoringOrder> = {}): ScoringOrder {
  return {
    provider: BOX,
    prompt: { kind: 'context', count: 1, values: new Float32Array(8) },
    classes: { names: CLASSES },
    classesParam: null,
    images,
    accountId: 'adapter-1',
    purpose: 'predict',
    guard: { kind: 'live_adapter' },
    worker: 'test',
    apiKeyId: 'key-1',
    ...overrides,
  };
}

/** Of the batches here; they are sent when none has come for a quarter of it. */
const WINDOW_MS = 40;

/** Long enough for a batch to be sent that waits for nobody, far too short for the window to end. */
const quiet = () => vi.advanceTimersByTimeAsync(WINDOW_MS * 0.4);

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

/** What comes of predictions once the window has ended. */
async function answered<Result>(predictions: Promise<Result>): Promise<Result> {
  const awaited = predictions.catch(() => {});
  await vi.advanceTimersByTimeAsync(2 * WINDOW_MS);
  await awaited;
  return predictions;
}

const numbers = (names: string[]) => names.flatMap(logitsOf);
const sum = (amounts: QueryAmounts[]) => amounts.reduce(addAmounts, NOTHING);

describe('PredictBatches', () => {
  it('asks once for predictions that come in one turn, and for equal images once', async () => {
    const { calls, score, letGo } = heldScoring();
    const batches = new PredictBatches(score, WINDOW_MS);
    const answers = Promise.all([
      batches.score('a', order([image('1'), image('2')])),
      batches.score('a', order([image('2')])),
      batches.score('a', order([image('3'), image('1')])),
    ]);
    await quiet();
    expect(calls.map(({ images }) => images)).toEqual([['1', '2', '3']]);
    letGo();
    const [first, second, third] = await answers;
    expect([...first.logits]).toEqual(numbers(['1', '2']));
    expect([...second.logits]).toEqual(numbers(['2']));
    expect([...third.logits]).toEqual(numbers(['3', '1']));
    expect(second.usage).toEqual(NOTHING);
    expect(sum([first.usage, second.usage, third.usage])).toEqual({
      promptEvaluations: 1,
      imageQueries: 3,
      requests: 1,
      costMicroUsd: 16,
    });
    expect([first, third].map(({ usage }) => usage.imageQueries)).toEqual([2, 1]);
  });

  it('waits for a prediction that is being read, but not beyond the window', async () => {
    const { calls, score, letGo } = heldScoring();
    const batches = new PredictBatches(score, WINDOW_MS);
    const read = batches.expect('a');
    const first = batches.score('a', order([image('1')]));
    await quiet();
    expect(calls).toHaveLength(0);
    const second = batches.score('a', order([image('2')]));
    read();
    await quiet();
    expect(calls.map(({ images }) => images)).toEqual([['1', '2']]);

    const never = batches.expect('a');
    const third = batches.score('a', order([image('3')]));
    await quiet();
    expect(calls).toHaveLength(1);
    await vi.advanceTimersByTimeAsync(WINDOW_MS);
    expect(calls.map(({ images }) => images)).toEqual([['1', '2'], ['3']]);
    never();
    letGo();
    await answered(Promise.all([first, second, third]));
  });

  it('waits for nobody once all are there who were there before', async () => {
    const { calls, score, letGo } = heldScoring();
    letGo();
    const batches = new PredictBatches(score, WINDOW_MS);
    const ask = (names: string[], of: Provider) =>
      names.map((name) => {
        batches.expect('a')();
        return batches.score('a', order([image(name)], { provider: of }));
      });
    const asked = () => calls.map(({ images }) => images.join(' '));
    await answered(Promise.all(ask(['1', '2', '3'], FREE_REQUESTS)));

    const next = ask(['4', '5'], FREE_REQUESTS);
    await vi.advanceTimersByTimeAsync(0);
    expect(asked()).toEqual(['1 2 3']);
    next.push(...ask(['6'], FREE_REQUESTS));
    await vi.advanceTimersByTimeAsync(0);
    expect(asked()).toEqual(['1 2 3', '4 5 6']);
    await Promise.all(next);

    // Somebody may come all the same, and a call for him would cost something.
    const paid = ask(['7', '8', '9'], BOX);
    await vi.advanceTimersByTimeAsync(0);
    expect(asked()).toEqual(['1 2 3', '4 5 6']);
    await answered(Promise.all(paid));
  });

  it('keeps adapters, API keys and providers whose record was changed apart', async () => {
    const { calls, score, letGo } = heldScoring();
    const batches = new PredictBatches(score, WINDOW_MS);
    const changed = provider({ concurrency: 9 });
    const answers = [
      batches.score('a', order([image('1')])),
      batches.score('b', order([image('2')], { accountId: 'adapter-2' })),
      batches.score('a', order([image('3')], { apiKeyId: 'key-2' })),
      batches.score('a', order([image('4')])),
      batches.score('a', order([image('5')], { provider: changed })),
    ];
    letGo();
    await answered(Promise.all(answers));
    const asked = calls.map(({ images, order: { accountId, apiKeyId, provider: asked } }) =>
      [images.join(), accountId, apiKeyId, asked === changed].join(' '),
    );
    expect(asked.sort()).toEqual([
      '1,4 adapter-1 key-1 false',
      '2 adapter-2 key-1 false',
      '3 adapter-1 key-2 false',
      '5 adapter-1 key-1 true',
    ]);
  });

  it('never makes a call of more images or bytes than the provider takes', async () => {
    const { calls, score, letGo } = heldScoring();
    const batches = new PredictBatches(score, WINDOW_MS);
    letGo();
    const large = 400_000;
    await answered(
      Promise.all([
        ...['1', '2', '3'].map((name) => batches.score('a', order([image(name), image(`${name}0`)]))),
        ...['4', '5', '6'].map((name) => batches.score('b', order([image(name, large)]))),
        // More than one call by itself: it goes alone, and is cut there.
        batches.score('a', order(['7', '8', '9', '70', '80'].map((name) => image(name)))),
      ]),
    );
    expect(calls.map(({ images }) => images.join()).sort()).toEqual(['1,10,2,20', '3,30', '4,5', '6', '7,8,9,70,80']);
  });

  it('joins what arrives while the provider is asked as much as it may be', async () => {
    const { calls, score, letGo } = heldScoring();
    const batches = new PredictBatches(score, 1);
    const answers: Promise<Scored>[] = [];
    for (const name of ['1', '2', '3', '4', '5']) {
      answers.push(batches.score('a', order([image(name)])));
      await quiet();
    }
    expect(calls.map(({ images }) => images)).toEqual([['1'], ['2']]);
    calls[0].finish();
    await answers[0];
    await quiet();
    expect(calls.map(({ images }) => images)).toEqual([['1'], ['2'], ['3', '4', '5']]);
    letGo();
    await answered(Promise.all(answers));
  });

  it('refuses an image that is too large before it joins, and spoils nobody', async () => {
    const { calls, score, letGo } = heldScoring();
    const batches = new PredictBatches(score, WINDOW_MS);
    letGo();
    const good = batches.score('a', order([image('1')]));
    await expect(batches.score('a', order([image('2'), image('3', 2_000_000)]))).rejects.toMatchObject({
      code: 'image_too_large_for_provider',
      param: 'images.1',
    });
    expect([...(await answered(good)).logits]).toEqual(numbers(['1']));
    expect(calls.map(({ images }) => images)).toEqual([['1']]);
  });

  it.each<[string, Error]>([
    [
      'the provider refuses what it was sent',
      new ProviderCallError({
        code: 'provider_refused_request',
        message: 'unreadable',
        billing: 'unbilled',
        retryable: false,
        providerStatus: 400,
      }),
    ],
    [
      'the budget does not cover all of them',
      new LimitReachedError({
        accountId: 'adapter-1',
        kind: 'adapter',
        unit: 'imageQueries',
        limit: 1,
        remaining: 1,
        needed: 2,
      }),
    ],
  ])('asks caller by caller where %s', async (_, refusal) => {
    const { calls, score, letGo } = heldScoring(({ images }) =>
      images.some(({ sha256 }) => sha256 === '2') ? refusal : null,
    );
    const batches = new PredictBatches(score, WINDOW_MS);
    letGo();
    const [first, second, third] = await answered(
      Promise.allSettled(['1', '2', '3'].map((name) => batches.score('a', order([image(name)])))),
    );
    expect(calls.map(({ images }) => images)).toEqual([['1', '2', '3'], ['1'], ['2'], ['3']]);
    expect(second).toEqual({ status: 'rejected', reason: refusal });
    expect([first, third].map(({ status }) => status)).toEqual(['fulfilled', 'fulfilled']);
  });

  it.each([500, 429, 401])(
    'lets a failure with status %d reach every caller, and asks nobody again',
    async (status) => {
      const failure = new ProviderCallError({
        code: 'provider_unavailable',
        message: 'down',
        billing: 'unknown',
        retryable: status !== 401,
        providerStatus: status,
      });
      const { calls, score, letGo } = heldScoring(() => failure);
      const batches = new PredictBatches(score, WINDOW_MS);
      letGo();
      const answers = await answered(
        Promise.allSettled(['1', '2'].map((name) => batches.score('a', order([image(name)])))),
      );
      expect(answers).toEqual([1, 2].map(() => ({ status: 'rejected', reason: failure })));
      expect(calls).toHaveLength(1);
    },
  );

  it.each<[string, number, Provider]>([
    ['batching is off', 0, BOX],
    ['the provider takes one image at a time', 1000, provider({ imagesPerRequest: 1 })],
  ])('leaves predictions as they are where %s', async (_, window, box) => {
    const { calls, score, letGo } = heldScoring();
    const batches = new PredictBatches(score, window);
    letGo();
    const orders = [[image('1')], [image('1'), image('2'), image('1')]].map((images) =>
      order(images, { provider: box }),
    );
    const answers = await answered(Promise.all(orders.map((each) => batches.score('a', each))));
    expect(calls.map(({ order: asked }) => asked)).toEqual(orders);
    expect(answers.map(({ usage }) => usage.imageQueries)).toEqual([1, 3]);
  });

  it('gives everybody his own answer, whatever comes when', async () => {
    const arrival = fc.record({
      images: fc.array(fc.integer({ min: 0, max: 9 }), { minLength: 1, maxLength: 5 }),
      adapter: fc.constantFrom('a', 'b'),
      key: fc.constantFrom('key-1', 'key-2'),
      msBefore: fc.nat(15),
    });
    await fc.assert(
      fc.asyncProperty(fc.array(arrival, { maxLength: 20 }), async (arrivals) => {
        const { calls, score, letGo } = heldScoring();
        const batches = new PredictBatches(score, WINDOW_MS);
        letGo();
        const answers: Promise<Scored>[] = [];
        for (const { images, adapter, key, msBefore } of arrivals) {
          await vi.advanceTimersByTimeAsync(msBefore);
          answers.push(
            batches.score(
              adapter,
              order(
                images.map((name) => image(String(name))),
                { apiKeyId: key },
              ),
            ),
          );
        }
        const scored = await answered(Promise.all(answers));
        for (const [i, { logits }] of scored.entries())
          expect([...logits]).toEqual(numbers(arrivals[i].images.map(String)));
        const drawn = calls.map(({ images }) => ({ ...amountsOfImages(BOX, images.length), promptEvaluations: 1 }));
        expect(sum(scored.map(({ usage }) => usage))).toEqual(sum(drawn));
      }),
      { numRuns: 50 },
    );
  });
});

describe('shareOut', () => {
  const amount = fc.maxSafeNat();
  const amounts = fc.record({
    promptEvaluations: amount,
    imageQueries: amount,
    requests: amount,
    costMicroUsd: amount,
  });
  const weights = fc.array(fc.nat(1024), { minLength: 1, maxLength: 40 }).filter((all) => all.some((one) => one > 0));

  it('makes whole shares that add up, in proportion to within one, and nothing for a weight of 0', () => {
    fc.assert(
      fc.property(amounts, weights, (all, parts) => {
        const shares = shareOut(all, parts);
        const whole = parts.reduce((a, b) => a + b, 0);
        for (const unit of UNITS) {
          expect(shares.reduce((total, share) => total + BigInt(share[unit]), 0n)).toBe(BigInt(all[unit]));
          for (const [i, part] of parts.entries()) {
            const share = BigInt(shares[i][unit]);
            const off = share * BigInt(whole) - BigInt(all[unit]) * BigInt(part);
            expect(off > -BigInt(whole) && off < BigInt(whole)).toBe(true);
            if (part === 0) expect(share).toBe(0n);
          }
        }
      }),
    );
  });
});
