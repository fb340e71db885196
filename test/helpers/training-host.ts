import { execFileSync } from 'node:child_process';
import { signal as send } from '../../chaos/process-table.js';
import { until } from './api.js';
import type { TestService } from './service.js';

/** Processes that run the jobs of this process's workers. */
export function trainingHosts(): number[] {
  try {
    return execFileSync('pgrep', ['-P', String(process.pid), '-f', ' train-jobs$'], { encoding: 'utf8' })
      .trim()
      .split('\n')
      .map(Number);
  } catch {
    return [];
  }
}

/** With all jobs in them. */
export function killTraining(signal: NodeJS.Signals = 'SIGKILL'): void {
  for (const pid of trainingHosts()) send(pid, signal);
}

/**
 * Creates jobs and kills what runs them, each time as soon as so many calls of each are settled. The others that are in
 * flight then are held by the provider; it lets them go a few at a time until there are enough.
 */
export async function killedWhileRunning<Job extends { id: string }>(
  service: TestService,
  settledCalls: number[],
  create: () => Promise<Job[]>,
): Promise<Job[]> {
  const { misbehaviour } = service.provider;
  const holdTheNext = () => misbehaviour.configure({ hold_after: 0 });
  holdTheNext();
  const jobs = await create();
  const concurrency = await providerConcurrency(service, jobs[0].id);
  for (const calls of settledCalls) {
    await until(async () => {
      const { settled, reserved } = await callsOf(service, jobs);
      // Only when all that can be in flight has arrived; what a killed process has sent may come on top of it.
      if (reserved === 0 || misbehaviour.status().held < Math.min(reserved, concurrency)) return false;
      const enough = jobs.every(({ id }) => (settled.get(id) ?? 0) >= calls);
      if (!enough) holdTheNext();
      return enough;
    });
    killTraining();
    holdTheNext();
  }
  misbehaviour.configure({});
  return jobs;
}

async function providerConcurrency({ core: { database } }: TestService, jobId: string): Promise<number> {
  const { providerId } = await database.job.findUniqueOrThrow({ where: { id: jobId } });
  return (await database.provider.findUniqueOrThrow({ where: { id: providerId! } })).concurrency;
}

async function callsOf(service: TestService, jobs: { id: string }[]) {
  const counts = await service.core.database.reservation.groupBy({
    by: ['accountId', 'state'],
    where: { accountId: { in: jobs.map(({ id }) => id) } },
    _count: true,
  });
  const inState = (wanted: string) => counts.filter(({ state }) => state === wanted);
  return {
    settled: new Map(inState('settled').map(({ accountId, _count }) => [accountId, _count])),
    reserved: inState('reserved').reduce((sum, { _count }) => sum + _count, 0),
  };
}
