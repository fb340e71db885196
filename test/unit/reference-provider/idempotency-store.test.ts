import { describe, expect, it } from 'vitest';
import { IdempotencyKeyReusedError } from '../../../src/reference-provider/idempotency-key.js';
import { type IdempotencyLimits, IdempotencyStore } from '../../../src/reference-provider/idempotency-store.js';

const LIMITS = { windowSeconds: 60, maxKeys: 100, maxAnswerBytes: 1000 };

/** A store with a clock, and what has been computed and paid in it. */
function shop(limits: Partial<IdempotencyLimits> = {}) {
  const clock = { now: 0 };
  const store = new IdempotencyStore({ ...LIMITS, ...limits }, () => clock.now);
  const computed: string[] = [];
  const paid: string[] = [];
  async function ask(
    key: string,
    { client = 'a', question = 'q', compute = async () => Float32Array.of(7) as Float32Array } = {},
  ) {
    return store.once(client, key, question, {
      compute: () => {
        computed.push(key);
        return compute();
      },
      encode: (logits) => [...logits],
      pay: () => {
        paid.push(key);
        store.remember({ client, key, question, time: clock.now });
      },
    });
  }
  return { clock, store, computed, paid, ask };
}

describe('IdempotencyStore', () => {
  it('pays once for a key of a client, and refuses another question under it', async () => {
    const { ask, computed, paid } = shop();
    expect(await ask('k')).toEqual([7]);
    expect(await ask('k')).toEqual([7]);
    await expect(ask('k', { question: 'other' })).rejects.toThrow(IdempotencyKeyReusedError);
    await ask('k', { client: 'b', question: 'other' });
    expect(paid).toEqual(['k', 'k']);
    expect(computed).toEqual(['k', 'k']);
  });

  it('lets those that come meanwhile wait for the first, and the next one try when it fails', async () => {
    const { ask, computed, paid } = shop();
    let fail = (_: Error) => {};
    const failing = ask('k', { question: 'bad', compute: () => new Promise((_, reject) => (fail = reject)) });
    const others = Promise.all([ask('k'), ask('k'), ask('k')]);
    expect(computed).toEqual(['k']);
    fail(new Error('no'));
    await expect(failing).rejects.toThrow('no');
    expect(await others).toEqual([[7], [7], [7]]);
    expect(computed).toEqual(['k', 'k']);
    expect(paid).toEqual(['k']);
  });

  it('computes an answer again that was not kept, without payment', async () => {
    const { ask, computed, paid } = shop({ maxAnswerBytes: 8 });
    for (const key of ['a', 'b', 'c', 'c', 'a']) await ask(key);
    expect(computed).toEqual(['a', 'b', 'c', 'a']);
    expect(paid).toEqual(['a', 'b', 'c']);
  });

  it('forgets keys after the window, and the oldest beyond the limit', async () => {
    const { ask, paid, clock } = shop({ maxKeys: 2 });
    await ask('a');
    clock.now = 60_000;
    await ask('a');
    expect(paid).toEqual(['a']);
    clock.now = 60_001;
    await ask('a', { question: 'new' });
    expect(paid).toEqual(['a', 'a']);
    for (const key of ['b', 'c', 'b', 'a']) await ask(key);
    expect(paid).toEqual(['a', 'a', 'b', 'c', 'a']);
  });
});
