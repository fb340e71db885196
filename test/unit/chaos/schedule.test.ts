import { describe, expect, it } from 'vitest';
import { Random } from '../../../chaos/random.js';
import { faultName, scheduleRound } from '../../../chaos/schedule.js';

const SYSTEM = { queue: 'redis', kinds: 4, jobs: 3, lockMs: 2000 } as const;
const rounds = (seed: number, count: number, queue: 'postgres' | 'redis' = 'redis') =>
  Array.from({ length: count }, (_, index) => scheduleRound(seed, index + 1, { ...SYSTEM, queue }));

describe('the schedule of faults', () => {
  it('follows from the seed', () => {
    expect(rounds(7, 5)).toEqual(rounds(7, 5));
    expect(rounds(7, 5)).not.toEqual(rounds(8, 5));
    const [first, second] = rounds(7, 2);
    expect(first).not.toEqual(second);
    // A round can be run without those before it.
    expect(scheduleRound(7, 2, SYSTEM)).toEqual(second);
  });

  it('comes to every fault in time', () => {
    const names = (queue: 'postgres' | 'redis') =>
      new Set(rounds(1, 60, queue).flatMap(({ faults }) => faults.map(({ fault }) => faultName(fault))));
    const withRedis = names('redis');
    expect([...withRedis].sort()).toEqual([
      ...['answer 429', 'answer 500', 'answer 503', 'answer drop_after', 'answer drop_before', 'answer hang'],
      ...['answer truncate', 'cut postgres', 'cut provider', 'cut redis', 'delay answers', 'freeze worker', 'kill api'],
      ...['kill postgres', 'kill provider', 'kill redis', 'kill training process', 'kill worker alone'],
      ...['kill worker and its jobs', 'pause and resume'],
    ]);
    expect([...withRedis].filter((name) => !names('postgres').has(name)).sort()).toEqual(['cut redis', 'kill redis']);
  });

  it('freezes workers for longer than their lock, and names jobs that there are', () => {
    for (const { kinds, faults } of rounds(3, 60)) {
      expect(new Set(kinds).size).toBe(SYSTEM.jobs);
      for (const { fault } of faults) {
        if (fault.kind === 'freeze') expect(fault.frozenMs).toBeGreaterThan(SYSTEM.lockMs * 1.5);
        if (fault.kind === 'pause') expect(fault.job).toBeLessThan(SYSTEM.jobs);
      }
    }
  });
});

describe('seeded random numbers', () => {
  it('fill their range evenly', () => {
    const random = new Random(5);
    const counts = [0, 0, 0, 0];
    for (let draw = 0; draw < 8000; draw++) counts[random.integer(0, 3)]++;
    for (const count of counts) expect(Math.abs(count - 2000)).toBeLessThan(200);
    const drawn = Array.from({ length: 1000 }, () => random.weighted({ often: 3, seldom: 1, never: 0 }));
    expect(drawn.filter((key) => key === 'often').length).toBeGreaterThan(690);
    expect(drawn).toContain('seldom');
    expect(drawn).not.toContain('never');
    expect(random.shuffled([1, 2, 3, 4]).sort()).toEqual([1, 2, 3, 4]);
  });
});
