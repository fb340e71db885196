import { type Amounts, add, exceeds, NOTHING, UNITS } from './amounts.js';
import type { Account, JobRecord, Reservation } from './books.js';

/** What must hold after every round, as pure functions of figures that were read; each answers with what does not hold. */

/** A moment at which calls may have been paid for without their answer being kept. */
export interface Interruption {
  from: number;
  to: number;
  /** The jobs whose calls it hit; all, where absent. */
  jobIds?: string[];
  /** Those whose calls it hit, by their names in the ledger; all, where absent. */
  workers?: string[];
  /** Only the calls of workers before this one. */
  beforeEpoch?: number;
}

export interface JobFigures {
  id: string;
  record: JobRecord;
  account: Account;
  reservations: Reservation[];
  /** What the provider says it has served to the job. */
  served: Amounts;
  plan: Amounts;
  /** How often its budget was raised after it had been used up. */
  raises: number;
  adapterDigest: string | null;
  undisturbedDigest: string;
}

/** 1. The provider never serves more than the limit, nor more than was reserved. Holds at every moment. */
export function withinLimits(id: string, served: Amounts, account: Account): string[] {
  const breaches: string[] = [];
  const drawn = add(account.used, account.reserved);
  const over = exceeds(drawn, account.limit);
  if (over) breaches.push(`${id}: ${drawn[over]} ${over} are drawn on a limit of ${account.limit[over]}`);
  const beyond = exceeds(served, account.limit);
  if (beyond) {
    breaches.push(`${id}: the provider served ${served[beyond]} ${beyond}, the limit is ${account.limit[beyond]}`);
  }
  const unreserved = exceeds(served, drawn);
  if (unreserved) {
    breaches.push(`${id}: the provider served ${served[unreserved]} ${unreserved}, reserved were ${drawn[unreserved]}`);
  }
  return breaches;
}

/** 1. The ledger's total is what is settled and unknown, and what is settled is what the provider served. */
export function booksAgree({ id, account, reservations, served }: JobFigures): string[] {
  const breaches: string[] = [];
  const sums = byState(reservations);
  const spent = add(sums.settled, sums.unknown);
  for (const unit of UNITS) {
    if (account.used[unit] !== spent[unit]) {
      breaches.push(`${id}: ${account.used[unit]} ${unit} used, but its calls add up to ${spent[unit]}`);
    }
    if (account.reserved[unit] !== 0 || sums.reserved[unit] !== 0) {
      breaches.push(`${id}: ${account.reserved[unit]} ${unit} are still reserved after its end`);
    }
    if (served[unit] < sums.settled[unit] || served[unit] > spent[unit]) {
      breaches.push(
        `${id}: the provider served ${served[unit]} ${unit}; ${sums.settled[unit]} are settled and ${sums.unknown[unit]} unknown`,
      );
    }
  }
  return breaches;
}

/** 2. The job has reached the end that was planned for it, once. */
export function reachedItsEnd({ id, record, raises }: JobFigures): string[] {
  const { status, generation, plannedGenerations, stopReason, error, toldGenerations, successes, adapters } = record;
  const breaches: string[] = [];
  if (status !== 'succeeded' || stopReason !== null || generation !== plannedGenerations) {
    const ended = [stopReason, error].filter((part) => part !== null).join(', ');
    breaches.push(`${id}: ${status}${ended && ` (${ended})`} after generation ${generation} of ${plannedGenerations}`);
  }
  const expected = Array.from({ length: plannedGenerations }, (_, index) => index + 1);
  if (JSON.stringify(toldGenerations) !== JSON.stringify(expected)) {
    breaches.push(`${id}: told the generations ${toldGenerations.join(', ')}`);
  }
  if (adapters.length < 1 || adapters.length > 1 + raises) {
    breaches.push(`${id}: has ${adapters.length} adapters, though its budget was raised ${raises} times`);
  }
  if (successes !== 1 + raises) {
    breaches.push(`${id}: succeeded ${successes} times, though its budget was raised ${raises} times`);
  }
  return breaches;
}

/** 2. Nothing was created twice or lost. */
export function jobsAddUp(inDatabase: number, created: number): string[] {
  return inDatabase === created ? [] : [`There are ${inDatabase} jobs, though ${created} were created`];
}

export interface PaidTwice {
  paidTwice: number;
  allowed: number;
}

/**
 * The moments at which a job passed from one worker to the next. What the former had in flight is lost to it then, also
 * where it was only thought to be dead: its lock had lapsed, or the queue's store was lost.
 */
export function takeovers(jobs: JobFigures[]): Interruption[] {
  return jobs.flatMap(({ id, record }) =>
    record.claimedAt
      .map((at, index) => ({ from: at, to: Number.POSITIVE_INFINITY, jobIds: [id], beforeEpoch: index + 1 }))
      .slice(1),
  );
}

/**
 * 3. Image queries that were served beyond the plans, and how many may have been: those of the calls that an
 * interruption met in flight or whose answer the provider spoilt, none where it honours idempotency keys.
 */
export function paidTwice(
  jobs: JobFigures[],
  interruptions: Interruption[],
  spoiltImageQueries: number,
  idempotency: boolean,
): PaidTwice {
  const probes = byState(jobs.flatMap(({ reservations }) => reservations.filter(({ purpose }) => purpose === 'probe')));
  const beyond = jobs.reduce((sum, { served, plan }) => sum + served.image_queries - plan.image_queries, 0);
  const hit = jobs
    .flatMap(({ reservations }) => reservations)
    .filter((call) => call.purpose !== 'probe' && interruptions.some((interruption) => hits(interruption, call)))
    .reduce((sum, { amounts }) => sum + amounts.image_queries, 0);
  const unplanned = beyond - probes.settled.image_queries;
  return {
    // A probe whose outcome is unknown may have been served or not.
    paidTwice: unplanned < 0 ? unplanned : Math.max(0, unplanned - probes.unknown.image_queries),
    allowed: idempotency ? 0 : hit + spoiltImageQueries,
  };
}

export function paidTwiceWithinBounds({ paidTwice, allowed }: PaidTwice): string[] {
  if (paidTwice < 0) return [`${-paidTwice} image queries of the plans were never served`];
  return paidTwice <= allowed ? [] : [`${paidTwice} image queries were paid twice; at most ${allowed} may have been`];
}

/** 4. The adapter is the one of an undisturbed run, bit for bit. */
export function sameAdapter({ id, adapterDigest, undisturbedDigest }: JobFigures): string[] {
  return adapterDigest === undisturbedDigest ? [] : [`${id}: its adapter differs from that of an undisturbed run`];
}

export function countStates(reservations: Reservation[]): Record<Reservation['state'], number> {
  const counts = { reserved: 0, settled: 0, released: 0, unknown: 0 };
  for (const { state } of reservations) counts[state]++;
  return counts;
}

function byState(reservations: Reservation[]): Record<Reservation['state'], Amounts> {
  const sums = { reserved: NOTHING, settled: NOTHING, released: NOTHING, unknown: NOTHING };
  for (const { state, amounts } of reservations) sums[state] = add(sums[state], amounts);
  return sums;
}

function hits({ from, to, jobIds, workers, beforeEpoch }: Interruption, call: Reservation): boolean {
  const { jobId, worker, epoch, createdAt, closedAt } = call;
  if (jobIds !== undefined && !jobIds.includes(jobId)) return false;
  if (workers !== undefined && !workers.includes(worker)) return false;
  if (beforeEpoch !== undefined && (epoch === null || epoch >= beforeEpoch)) return false;
  return createdAt <= to && (closedAt === null || closedAt >= from);
}
