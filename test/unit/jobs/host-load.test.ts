import { pino } from 'pino';
import { describe, expect, it } from 'vitest';
import { HostLoad } from '../../../src/jobs/host-load.js';

interface Line {
  jobs: number;
  eventLoopDelayMs: { p50: number; p99: number; max: number };
  residentMiB: number;
}

/** Keeps what is being done from letting anything else happen. */
function blockFor(milliseconds: number): void {
  const until = performance.now() + milliseconds;
  while (performance.now() < until);
}

const sleep = (milliseconds: number) => new Promise((resolve) => setTimeout(resolve, milliseconds));

describe('the load of a process that runs jobs', () => {
  it('is told when the last one has ended: how many there were, and how late events were', async () => {
    const lines: Line[] = [];
    const load = new HostLoad(pino({ level: 'info' }, { write: (line: string) => lines.push(JSON.parse(line)) }));
    const ends = [load.begin(), load.begin(), load.begin()];
    ends[0]();
    await sleep(50);
    blockFor(300);
    await sleep(50);
    ends[1]();
    expect(lines).toEqual([]);
    ends[2]();
    expect(lines).toHaveLength(1);
    expect(lines[0].jobs).toBe(3);
    expect(lines[0].eventLoopDelayMs.max).toBeGreaterThan(250);
    expect(lines[0].residentMiB).toBeGreaterThan(10);

    const next = load.begin();
    await sleep(20);
    next();
    expect(lines[1].jobs).toBe(1);
    expect(lines[1].eventLoopDelayMs.max).toBeLessThan(lines[0].eventLoopDelayMs.max);
  });
});
