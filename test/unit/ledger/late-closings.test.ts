import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { LateClosings } from '../../../src/ledger/late-closings.js';

describe('LateClosings', () => {
  beforeEach(() => {
    vi.useFakeTimers();
  });
  afterEach(() => {
    vi.useRealTimers();
  });

  it('gathers what comes within a moment and closes it at once', async () => {
    const batches: number[][] = [];
    const late = new LateClosings<number>(async (items) => batches.push(items));
    late.add(1);
    late.add(2);
    await vi.advanceTimersByTimeAsync(15);
    late.add(3);
    expect(batches).toEqual([]);
    await vi.advanceTimersByTimeAsync(10);
    expect(batches).toEqual([[1, 2, 3]]);
    late.add(4);
    await vi.advanceTimersByTimeAsync(25);
    expect(batches).toEqual([[1, 2, 3], [4]]);
  });

  it('sends at once what fills a batch', async () => {
    const batches: number[][] = [];
    const late = new LateClosings<number>(async (items) => batches.push(items));
    for (let item = 0; item < 513; item++) late.add(item);
    expect(batches.map(({ length }) => length)).toEqual([512]);
    await late.done();
    expect(batches.map(({ length }) => length)).toEqual([512, 1]);
    expect(batches.flat()).toEqual(Array.from({ length: 513 }, (_, item) => item));
  });

  it('is done when what waits and what is under way has been tried', async () => {
    const finish: (() => void)[] = [];
    const late = new LateClosings<number>(() => new Promise<void>((resolve) => finish.push(resolve)));
    late.add(1);
    await vi.advanceTimersByTimeAsync(25);
    late.add(2);
    let isDone = false;
    const done = late.done().then(() => {
      isDone = true;
    });
    expect(finish).toHaveLength(2);
    finish[1]();
    await vi.advanceTimersByTimeAsync(1);
    expect(isDone).toBe(false);
    finish[0]();
    await done;
    expect(isDone).toBe(true);
  });

  it('closes the others where one cannot be closed', async () => {
    const closed: number[] = [];
    const late = new LateClosings<number>(async (items) => {
      if (items.includes(2)) throw new Error('refused');
      closed.push(...items);
    });
    for (const item of [1, 2, 3]) late.add(item);
    await expect(late.done()).resolves.toBeUndefined();
    expect(closed).toEqual([1, 3]);
  });
});
