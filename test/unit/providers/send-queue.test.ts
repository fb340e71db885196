import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { BackOff } from '../../../src/providers/back-off.js';
import { type Place, SendQueue, type Turn } from '../../../src/providers/send-queue.js';
import { SlidingWindow } from '../../../src/providers/sliding-window.js';

beforeEach(() => {
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'performance'] });
});
afterEach(() => {
  vi.useRealTimers();
});

function open({ concurrency = 100, perSecond = null as number | null, tokensPerSecond = null as number | null } = {}) {
  const backOff = new BackOff(concurrency);
  const queue = new SendQueue(backOff, {
    requests: perSecond === null ? null : new SlidingWindow(perSecond),
    tokens: tokensPerSecond === null ? null : new SlidingWindow(tokensPerSecond),
  });
  return { backOff, queue };
}

/** Enters so many turns at once. @returns when each was sent, and their places, both growing as time passes */
function enter(queue: SendQueue, count: number, turn: Partial<Turn> = {}) {
  const sent: number[] = [];
  const places: Place[] = [];
  const failures: unknown[] = [];
  for (let i = 0; i < count; i++) {
    queue.enter({ tokens: 0, ...turn }).then(
      (place) => {
        place.sent();
        sent.push(performance.now());
        places.push(place);
      },
      (error: unknown) => failures.push(error),
    );
  }
  return { sent, places, failures };
}

describe('SendQueue', () => {
  it('keeps any second to the limit, in bursts with pauses, and catches up', async () => {
    const { queue } = open({ perSecond: 10, concurrency: 150 });
    const start = performance.now();
    const all: number[] = [];
    for (let burst = 0; burst < 5; burst++) {
      const { sent } = enter(queue, 30);
      await vi.advanceTimersByTimeAsync(3600);
      expect(sent).toHaveLength(30);
      all.push(...sent.map((at) => at - start));
    }
    for (const from of all) expect(all.filter((at) => at >= from && at < from + 1000).length).toBeLessThanOrEqual(10);
  });

  it('keeps to tokens per second', async () => {
    const { queue } = open({ tokensPerSecond: 1000 });
    const { sent } = enter(queue, 9, { tokens: 500 });
    await vi.advanceTimersByTimeAsync(500);
    expect(sent).toHaveLength(2);
    await vi.advanceTimersByTimeAsync(4000);
    expect(sent).toHaveLength(9);
  });

  it('waits in order for free places', async () => {
    const { queue } = open({ concurrency: 2 });
    const order: number[] = [];
    const places: Place[] = [];
    for (let i = 0; i < 4; i++) {
      void queue.enter({ tokens: 0 }).then((place) => {
        order.push(i);
        places.push(place);
      });
    }
    await vi.advanceTimersByTimeAsync(0);
    expect(order).toEqual([0, 1]);
    places[1].leave();
    await vi.advanceTimersByTimeAsync(0);
    expect(order).toEqual([0, 1, 2]);
  });

  it('holds everything while the provider wants to be left alone', async () => {
    const { queue, backOff } = open();
    backOff.hold(performance.now(), 5000);
    const { sent } = enter(queue, 3);
    await vi.advanceTimersByTimeAsync(4900);
    expect(sent).toEqual([]);
    await vi.advanceTimersByTimeAsync(200);
    expect(sent).toHaveLength(3);
  });

  it('lengthens a wait that is under way', async () => {
    const { queue, backOff } = open();
    backOff.hold(performance.now(), 1000);
    const { sent } = enter(queue, 1);
    await vi.advanceTimersByTimeAsync(500);
    backOff.hold(performance.now(), 5000);
    queue.advance();
    await vi.advanceTimersByTimeAsync(4900);
    expect(sent).toEqual([]);
    await vi.advanceTimersByTimeAsync(200);
    expect(sent).toHaveLength(1);
  });

  it('refuses at once who will not wait for so long', async () => {
    const { queue, backOff } = open();
    backOff.hold(performance.now(), 10_000);
    const impatient = enter(queue, 1, { patienceMs: 2000 });
    const patient = enter(queue, 1, { patienceMs: 11_000 });
    await vi.advanceTimersByTimeAsync(0);
    expect(impatient.failures).toMatchObject([{ reason: 'held', seconds: 10 }]);
    await vi.advanceTimersByTimeAsync(5000);
    backOff.hold(performance.now(), 60_000);
    queue.advance();
    await vi.advanceTimersByTimeAsync(0);
    expect(patient.failures).toMatchObject([{ reason: 'held', seconds: 60 }]);
  });

  it('lets callers give up while they wait, and leaves no timer behind', async () => {
    const { queue, backOff } = open();
    const controller = new AbortController();
    backOff.hold(performance.now(), 60_000);
    const { sent, failures } = enter(queue, 1, { signal: controller.signal });
    controller.abort();
    await vi.advanceTimersByTimeAsync(0);
    expect(failures).toMatchObject([{ reason: 'aborted' }]);
    expect(vi.getTimerCount()).toBe(0);
    const late = enter(queue, 1, { signal: controller.signal });
    await vi.advanceTimersByTimeAsync(0);
    expect(late.failures).toMatchObject([{ reason: 'aborted' }]);
    expect(sent).toEqual([]);
  });

  it('refuses all on closing, and is idle once the last has left', async () => {
    const { queue } = open({ concurrency: 1 });
    const first = enter(queue, 1);
    const second = enter(queue, 1);
    await vi.advanceTimersByTimeAsync(0);
    queue.close();
    const third = enter(queue, 1);
    let idle = false;
    void queue.idle().then(() => {
      idle = true;
    });
    await vi.advanceTimersByTimeAsync(0);
    expect([...second.failures, ...third.failures]).toMatchObject([{ reason: 'closed' }, { reason: 'closed' }]);
    expect(idle).toBe(false);
    first.places[0].leave();
    await vi.advanceTimersByTimeAsync(0);
    expect(idle).toBe(true);
  });

  it('does not count a request that was never sent', async () => {
    const { queue } = open({ perSecond: 1 });
    const place = await queue.enter({ tokens: 0 });
    place.leave();
    const { sent } = enter(queue, 1);
    await vi.advanceTimersByTimeAsync(300);
    expect(sent).toHaveLength(1);
  });
});

describe('BackOff', () => {
  it('halves what is in flight, and lets it grow by one with each round of successes', () => {
    const backOff = new BackOff(16);
    backOff.pushedBack(0, 10, 1);
    expect(backOff.mostInFlight).toBe(8);
    for (let i = 0; i < 9; i++) backOff.succeeded();
    expect(backOff.mostInFlight).toBe(9);
    for (let i = 0; i < 1000; i++) backOff.succeeded();
    expect(backOff.mostInFlight).toBe(16);
    for (let i = 0; i < 10; i++) backOff.pushedBack(100 + i, 100 + i, 0);
    expect(backOff.mostInFlight).toBe(1);
  });

  it('learns once from all that was on its way', () => {
    const backOff = new BackOff(16);
    const news = Array.from({ length: 8 }, (_, sentAt) => backOff.pushedBack(sentAt, 10 + sentAt, undefined));
    expect(news).toEqual([true, ...Array(7).fill(false)]);
    expect(backOff.mostInFlight).toBe(8);
    expect(backOff.heldUntil).toBeLessThanOrEqual(10 + 250);
  });

  it('holds as long as it is told to, up to ten minutes', () => {
    const backOff = new BackOff(4);
    backOff.pushedBack(0, 1000, 30);
    expect(backOff.heldUntil).toBe(31_000);
    backOff.pushedBack(0, 2000, 5);
    expect(backOff.heldUntil).toBe(31_000);
    backOff.pushedBack(0, 3000, 1e9);
    expect(backOff.heldUntil).toBe(603_000);
  });

  it('pauses longer with each push-back that names no time, until one succeeds', () => {
    const backOff = new BackOff(4);
    let now = 0;
    const pauses = Array.from({ length: 12 }, () => {
      backOff.pushedBack(now, now, undefined);
      const pause = backOff.heldUntil - now;
      now = backOff.heldUntil;
      return pause;
    });
    for (const [i, pause] of pauses.entries()) {
      const ceiling = Math.min(30_000, 250 * 2 ** i);
      expect(pause).toBeGreaterThanOrEqual(ceiling / 2);
      expect(pause).toBeLessThanOrEqual(ceiling);
    }
    backOff.succeeded();
    backOff.pushedBack(now, now, undefined);
    expect(backOff.heldUntil - now).toBeLessThanOrEqual(250);
  });
});
