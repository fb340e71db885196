import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { SlidingWindow } from '../../../src/providers/sliding-window.js';

/**
 * Sends requests that become available at `arrivals` (ms, ascending) as early as the window allows, each `delay` later
 * than it was let go. @returns when each was sent
 */
function sendAll(perSecond: number, arrivals: number[], amounts: number[] = [], delays: number[] = []): number[] {
  const window = new SlidingWindow(perSecond);
  const sent: number[] = [];
  let now = 0;
  for (const [i, arrival] of arrivals.entries()) {
    const amount = amounts[i] ?? 1;
    now = Math.max(now, arrival);
    for (let moment = window.earliest(now); moment > now; moment = window.earliest(now)) now = moment;
    window.reserve(amount, now);
    now += delays[i] ?? 0;
    window.confirm(amount, now);
    sent.push(now);
  }
  return sent;
}

/** The most that any window of a second holds, wherever it begins. */
function mostInOneSecond(sent: number[], amounts: number[] = []): number {
  const heldFrom = (start: number) =>
    sent.reduce((sum, at, i) => (at >= start && at < start + 1000 ? sum + (amounts[i] ?? 1) : sum), 0);
  return Math.max(...sent.map(heldFrom));
}

const bursts = fc
  .array(fc.tuple(fc.integer({ min: 0, max: 3000 }), fc.integer({ min: 1, max: 40 })), { minLength: 1, maxLength: 8 })
  .map((list) => {
    let at = 0;
    return list.flatMap(([pause, count]) => {
      at += pause;
      return Array<number>(count).fill(at);
    });
  });

describe('SlidingWindow', () => {
  it('lets no second hold more requests than the limit, whatever the bursts and connection times', () => {
    fc.assert(
      fc.property(bursts, fc.integer({ min: 1, max: 30 }), fc.array(fc.nat(300)), (arrivals, perSecond, delays) => {
        expect(mostInOneSecond(sendAll(perSecond, arrivals, [], delays))).toBeLessThanOrEqual(perSecond);
      }),
    );
  });

  it('holds when some requests reach the provider later than others', () => {
    fc.assert(
      fc.property(fc.array(fc.integer({ min: 0, max: 20 }), { minLength: 100, maxLength: 100 }), (late) => {
        const sent = sendAll(20, Array<number>(100).fill(0));
        expect(mostInOneSecond(sent.map((at, i) => at + late[i]))).toBeLessThanOrEqual(20);
      }),
    );
  });

  it('reaches the limit on average', () => {
    const sent = sendAll(50, Array<number>(1000).fill(0));
    expect(sent[999]).toBeLessThan((1000 / 50) * 1000 * 1.025);
  });

  it('catches up what a pause left unused', () => {
    // Generations of 50 at 50 per second, each asked for 600 ms after the last request of the one before.
    const window = new SlidingWindow(50);
    let now = 0;
    for (let i = 0; i < 20 * 50; i++) {
      if (i % 50 === 0) now += 600;
      for (let moment = window.earliest(now); moment > now; moment = window.earliest(now)) now = moment;
      window.reserve(1, now);
      window.confirm(1, now);
    }
    expect(now).toBeLessThan(20_000 * 1.05 + 600);
  });

  it.each([0.1, 0.5, 1.5, 2.5, 7.3])(
    'keeps %d per second on average, and in a second at most that rounded up',
    (rate) => {
      const sent = sendAll(rate, Array<number>(40).fill(0));
      expect(mostInOneSecond(sent)).toBeLessThanOrEqual(Math.ceil(rate));
      expect(39 / ((sent[39] - sent[0]) / 1000)).toBeLessThan(rate * (1 + Math.ceil(rate) / 39));
      expect(40 / ((sent[39] - sent[0]) / 1000)).toBeGreaterThan(rate * 0.95);
    },
  );

  it('spaces requests that are slower than one per second', () => {
    const [first, second, third] = sendAll(0.5, [0, 0, 0]);
    expect(second - first).toBeGreaterThanOrEqual(2000);
    expect(third - second).toBeGreaterThanOrEqual(2000);
  });

  it('counts tokens, of which a second holds no more than the limit and one request', () => {
    fc.assert(
      fc.property(fc.array(fc.integer({ min: 0, max: 3000 }), { minLength: 1, maxLength: 60 }), (tokens) => {
        const sent = sendAll(
          1000,
          tokens.map(() => 0),
          tokens,
        );
        expect(mostInOneSecond(sent, tokens)).toBeLessThan(1000 + Math.max(1, ...tokens));
        const total = tokens.reduce((sum, amount) => sum + amount, 0);
        const seconds = sent[sent.length - 1] / 1000;
        expect(total).toBeLessThanOrEqual(1000 * seconds + 1000 + 2 * Math.max(...tokens));
        expect(seconds).toBeLessThanOrEqual((total / 1000) * 1.02 + 0.02 * tokens.length);
      }),
    );
  });

  it('grows where the provider counts otherwise, but not without end', () => {
    const window = new SlidingWindow(1);
    window.reserve(1, 0);
    window.confirm(1, 0);
    const before = window.earliest(0);
    window.widen();
    expect(window.earliest(0)).toBe(before + 10);
    for (let i = 0; i < 100; i++) window.widen();
    expect(window.earliest(0)).toBe(1100);
  });

  it('waits for requests that are not sent yet, and forgets those that never were', () => {
    const window = new SlidingWindow(1);
    window.reserve(1, 0);
    expect(window.earliest(5000)).toBe(Number.POSITIVE_INFINITY);
    window.withdraw(1);
    expect(window.earliest(5000)).toBe(5000);
    window.reserve(1, 5000);
    window.confirm(1, 7000);
    expect(window.earliest(7000)).toBeGreaterThanOrEqual(8000);
    expect(window.earliest(9000)).toBe(9000);
  });
});
