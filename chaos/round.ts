import { setTimeout as sleep } from 'node:timers/promises';
import { type Amounts, subtract, withCost } from './amounts.js';
import type { Books, Reservation } from './books.js';
import {
  booksAgree,
  type Interruption,
  type JobFigures,
  jobsAddUp,
  type PaidTwice,
  paidTwice,
  paidTwiceWithinBounds,
  reachedItsEnd,
  sameAdapter,
  takeovers,
  withinLimits,
} from './checks.js';
import { FaultInjector } from './faults.js';
import { Monitor } from './monitor.js';
import { GaveUpError, until } from './patience.js';
import { type TrainingProcess, trainingProcesses } from './process-table.js';
import { RunningJob } from './running-job.js';
import { describeFault, type Fault, type Moment, type RoundSchedule } from './schedule.js';
import type { System } from './system.js';

export interface RoundResult {
  round: number;
  jobs: number;
  committed: Fault[];
  reservations: Reservation[];
  generations: number;
  raises: number;
  paidTwice: PaidTwice;
  seconds: number;
  breaches: string[];
}

/** The longest that a fault waits for progress. */
const PROGRESS_MS = 3_000;
const POLL_MS = 20;
/** Longer than a run goes on without a look whether its job is still its own. */
const STALE_MS = 4_000;
/** How long jobs may take to get over the last fault. */
const RECOVERY_MS = 120_000;

/** Runs some jobs at once, disturbs them as scheduled, waits for their end and checks everything. */
export async function runRound(system: System, round: number, schedule: RoundSchedule): Promise<RoundResult> {
  const startedAt = Date.now();
  const { cluster, books, kinds, log } = system;
  const chosen = schedule.kinds.map((index) => kinds[index]);
  const served = async () => Promise.all(chosen.map(async ({ key }) => withCost(await cluster.control.served(key))));
  const servedBefore = await served();
  const jobs = await Promise.all(
    chosen.map((kind) => RunningJob.create(cluster.client, kind, `round-${round}-kind-${kind.index}`)),
  );
  system.created += jobs.length;
  log(`round ${round}: ${jobs.map(({ id, kind }) => `${id} (kind ${kind.index})`).join(', ')}`);
  const injector = new FaultInjector(cluster, jobs);
  await injector.begin();
  const before = new Map<RunningJob, Amounts>(jobs.map((job, index) => [job, servedBefore[index]]));
  const monitor = new Monitor(cluster.control, books, jobs, before);
  const patience = new AbortController();
  const ends = Promise.allSettled(jobs.map((job) => job.toItsEnd(books, patience.signal, log)));
  let overdue: NodeJS.Timeout | undefined;
  try {
    const committed: Fault[] = [];
    for (const { when, fault } of schedule.faults) {
      await isTime(when, jobs, system);
      if (jobs.every(({ ended }) => ended)) break;
      log(`${describeFault(fault)}`);
      if (await injector.commit(fault)) committed.push(fault);
      else log('there was nothing to commit it on');
    }
    await injector.settle();
    log('all is back');
    overdue = setTimeout(() => patience.abort(), RECOVERY_MS);
    const problems = (await ends).flatMap((end) => (end.status === 'rejected' ? [(end.reason as Error).message] : []));
    for (const job of jobs) {
      if (!job.ended) problems.push(`${job.id} is still ${job.status}, ${RECOVERY_MS / 1000} s after the last fault`);
    }
    problems.push(...(await quiescence(system, jobs)));
    await monitor.stop();
    const servedSince = (await served()).map((amounts, index) => subtract(amounts, servedBefore[index]));
    const figures = await readFigures(system, jobs, servedSince);
    const interruptions = [...injector.interruptions, ...takeovers(figures)];
    const result = paidTwice(figures, interruptions, injector.spoiltImageQueries, system.options.idempotency);
    const breaches = [
      ...problems,
      ...[...monitor.breaches.values()].flat(),
      ...figures.flatMap((job) => [
        ...withinLimits(job.id, job.served, job.account),
        ...booksAgree(job),
        ...reachedItsEnd(job),
        ...sameAdapter(job),
      ]),
      ...jobsAddUp(await books.jobCount(), system.created),
      ...(await books.discrepancies()).map((row) => `the ledger's own view of discrepancies has ${row}`),
      ...paidTwiceWithinBounds(result),
    ];
    for (const breach of breaches) log(`BREACH ${breach}`);
    if (breaches.length > 0) explain(figures, interruptions, log);
    return {
      round,
      jobs: jobs.length,
      committed,
      reservations: figures.flatMap(({ reservations }) => reservations),
      generations: figures.reduce((sum, { record }) => sum + record.generation, 0),
      raises: jobs.reduce((sum, { raises }) => sum + raises, 0),
      paidTwice: result,
      seconds: (Date.now() - startedAt) / 1000,
      breaches,
    };
  } finally {
    clearTimeout(overdue);
    patience.abort();
    await monitor.stop();
    await ends;
  }
}

async function isTime(when: Moment, jobs: RunningJob[], { books }: System): Promise<void> {
  if ('afterMs' in when) {
    await sleep(when.afterMs);
    return;
  }
  const ids = jobs.map(({ id }) => id);
  const deadline = Date.now() + PROGRESS_MS;
  let goal: number | undefined;
  while (Date.now() < deadline && !jobs.every(({ ended }) => ended)) {
    const calls = await books.settledCalls(ids);
    if (calls !== undefined) goal ??= calls + when.afterCalls;
    if (calls !== undefined && goal !== undefined && calls >= goal) return;
    await sleep(POLL_MS);
  }
}

/** Waits until nobody works on the jobs any more, so that figures no longer move. */
async function quiescence({ books, cluster }: System, jobs: RunningJob[]): Promise<string[]> {
  const ids = jobs.map(({ id }) => id);
  const nothingReserved = () =>
    until('the closing of all reservations', async () =>
      (await books.reservations(ids)).every(({ state }) => state !== 'reserved'),
    );
  try {
    await until('the end of the training processes that have lost their worker', async () => {
      const workers = new Set(cluster.workers.map(({ pid }) => pid));
      return (await trainingProcesses(cluster.workers)).every(({ parent }) => workers.has(parent));
    });
    await nothingReserved();
    if (await mayBeStale(books, await trainingProcesses(cluster.workers), ids)) {
      await sleep(STALE_MS);
      await nothingReserved();
    }
    return [];
  } catch (error) {
    if (error instanceof GaveUpError) return [error.message];
    throw error;
  }
}

/** Whether a process lives on in which a run of a job may not know yet that the job was taken over. */
async function mayBeStale(books: Books, training: TrainingProcess[], ids: string[]): Promise<boolean> {
  const alive = new Set(training.map(({ name }) => name));
  const reservations = await books.reservations(ids);
  return ids.some((id) => {
    const calls = reservations.filter(({ jobId, epoch }) => jobId === id && epoch !== null);
    const last = Math.max(...calls.map(({ epoch }) => epoch!));
    return calls.some(({ epoch, worker }) => epoch! < last && alive.has(worker));
  });
}

async function readFigures(
  { books, undisturbed }: System,
  jobs: RunningJob[],
  served: Amounts[],
): Promise<JobFigures[]> {
  const ids = jobs.map(({ id }) => id);
  const accounts = await books.accounts(ids);
  const reservations = await books.reservations(ids);
  return Promise.all(
    jobs.map(async (job, index) => {
      const { id, kind, raises } = job;
      return {
        id,
        record: await books.job(id),
        account: accounts.get(id)!,
        reservations: reservations.filter(({ jobId }) => jobId === id),
        served: served[index],
        plan: kind.plan,
        raises,
        adapterDigest: await job.adapterDigest(),
        undisturbedDigest: undisturbed.get(kind.index)!,
      };
    }),
  );
}

/** What a reader of the log needs in order to see how a breach came about. */
function explain(figures: JobFigures[], interruptions: Interruption[], log: (line: string) => void): void {
  const time = (at: number | null) => (at === null ? '-' : new Date(at).toISOString().slice(11, 23));
  for (const { from, to, jobIds, workers, beforeEpoch } of interruptions) {
    const what = beforeEpoch === undefined ? `to ${time(to)}` : `by the worker of epoch ${beforeEpoch}`;
    log(`interruption from ${time(from)} ${what} of ${(jobIds ?? workers)?.join(', ') ?? 'all'}`);
  }
  for (const { id, served, plan, reservations } of figures) {
    log(`${id}: served ${JSON.stringify(served)}, plan ${JSON.stringify(plan)}`);
    for (const { purpose, state, generation, chunk, epoch, amounts, createdAt, closedAt } of reservations) {
      log(
        `  ${time(createdAt)} ${time(closedAt)} ${state} ${purpose} ${generation}/${chunk}, ` +
          `epoch ${epoch}, ${amounts.image_queries} image queries`,
      );
    }
  }
}
