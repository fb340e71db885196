import { describe, expect, it } from 'vitest';
import { Batcher } from '../../src/batcher.js';

/** A batcher whose batches wait until they are let go. */
function heldBatcher(fits: (batch: number[], item: number) => boolean = () => true) {
  const batches: { items: number[]; finish(): void; fail(error: Error): void }[] = [];
  const batcher = new Batcher<number, string>(
    (items) =>
      new Promise((resolve, reject) => {
        batches.push({ items, finish: () => resolve(items.map((item) => `answer ${item}`)), fail: reject });
      }),
    fits,
  );
  return { batches, batcher };
}

/** Long enough for everything that waits for nothing but promises. */
const settled = () => new Promise((resolve) => setImmediate(resolve));

describe('Batcher', () => {
  it('runs what is submitted in the same turn as one batch, and gives each its own answer', async () => {
    const { batches, batcher } = heldBatcher();
    const answers = Promise.all([3, 1, 2].map((item) => batcher.submit(item)));
    await settled();
    expect(batches.map(({ items }) => items)).toEqual([[3, 1, 2]]);
    batches[0].finish();
    expect(await answers).toEqual(['answer 3', 'answer 1', 'answer 2']);
  });

  it('joins what arrives during a batch into the next one, and starts that only after the first has ended', async () => {
    const { batches, batcher } = heldBatcher();
    const first = batcher.submit(1);
    await settled();
    const later = [batcher.submit(2), batcher.submit(3)];
    await settled();
    expect(batches).toHaveLength(1);
    batches[0].finish();
    expect(await first).toBe('answer 1');
    await settled();
    expect(batches.map(({ items }) => items)).toEqual([[1], [2, 3]]);
    batches[1].finish();
    expect(await Promise.all(later)).toEqual(['answer 2', 'answer 3']);
  });

  it('tells an error to the callers of its batch only, and goes on with the next', async () => {
    const { batches, batcher } = heldBatcher();
    const failing = Promise.allSettled([batcher.submit(1), batcher.submit(2)]);
    await settled();
    const next = batcher.submit(3);
    const error = new Error('broken');
    batches[0].fail(error);
    expect(await failing).toEqual([1, 2].map(() => ({ status: 'rejected', reason: error })));
    await settled();
    batches[1].finish();
    expect(await next).toBe('answer 3');
  });

  it('puts no more into a batch than fits, but always one, and keeps the order', async () => {
    const upToTen = (batch: number[], item: number) => batch.reduce((sum, each) => sum + each, item) <= 10;
    const { batches, batcher } = heldBatcher(upToTen);
    const answers = Promise.all([4, 6, 1, 50, 2, 3].map((item) => batcher.submit(item)));
    for (let done = 0; done < 4; done++) {
      await settled();
      batches[done].finish();
    }
    expect(batches.map(({ items }) => items)).toEqual([[4, 6], [1], [50], [2, 3]]);
    expect(await answers).toEqual([4, 6, 1, 50, 2, 3].map((item) => `answer ${item}`));
  });

  it('starts anew after it has been idle', async () => {
    const { batches, batcher } = heldBatcher();
    for (let round = 0; round < 2; round++) {
      const answer = batcher.submit(round);
      await settled();
      batches[round].finish();
      expect(await answer).toBe(`answer ${round}`);
      await settled();
    }
    expect(batches).toHaveLength(2);
  });

  it('tries the others of a batch without the one that made it fail', async () => {
    const impossible = new Error('out of range');
    const batches: number[][] = [];
    const batcher = new Batcher<number, string>(
      async (items) => {
        batches.push(items);
        if (items.includes(2)) throw impossible;
        return items.map((item) => `answer ${item}`);
      },
      () => true,
      (error) => error === impossible,
    );
    const answers = await Promise.allSettled([1, 2, 3].map((item) => batcher.submit(item)));
    expect(answers).toEqual([
      { status: 'fulfilled', value: 'answer 1' },
      { status: 'rejected', reason: impossible },
      { status: 'fulfilled', value: 'answer 3' },
    ]);
    expect(batches).toEqual([[1, 2, 3], [1], [2], [3]]);
  });
});
