import { Prisma } from '../db/client.js';
import { ConflictError } from '../errors.js';
import { type NewJobEvent, recordEvents } from './events.js';

/** The life of a job: its states, and the one way from one to another. */
export const JOB_STATUSES = [
  'validating_files',
  'queued',
  'running',
  'paused',
  'succeeded',
  'failed',
  'cancelled',
] as const;

export type JobStatus = (typeof JOB_STATUSES)[number];

/** A status that a job can be brought into. */
export type TargetStatus = Exclude<JobStatus, 'validating_files'>;

/** Why a job is paused: by its user; its provider does not answer; it refuses what is asked; a limit is reached. */
export const PAUSE_REASONS = [
  'user',
  'provider_unavailable',
  'provider_refused',
  'budget_exhausted',
  'provider_limit',
  'provider_daily_limit',
  'project_limit',
] as const;

export type PauseReason = (typeof PAUSE_REASONS)[number];

const ALLOWED_FROM: Record<TargetStatus, JobStatus[]> = {
  // A job that has succeeded goes on when its budget is raised.
  queued: ['validating_files', 'paused', 'succeeded'],
  // A running job is claimed again when its worker was lost.
  running: ['queued', 'running'],
  paused: ['validating_files', 'queued', 'running'],
  succeeded: ['running'],
  failed: ['validating_files', 'queued', 'running'],
  cancelled: ['validating_files', 'queued', 'running', 'paused'],
};

/** A job in one of these still needs its files and its provider. */
export const UNFINISHED_STATUSES: JobStatus[] = ['validating_files', 'queued', 'running', 'paused'];

/** A job in one of these is to be worked on, or is being worked on. */
export const ACTIVE_STATUSES: JobStatus[] = ['validating_files', 'queued', 'running'];

export function isTerminal(status: JobStatus): boolean {
  return !UNFINISHED_STATUSES.includes(status);
}

export interface Transition {
  to: TargetStatus;
  /** What people are told of it. */
  event: NewJobEvent;
  /** Further columns that change with the status. */
  set?: Prisma.Sql;
  /** What must hold besides the status, such as the owner's epoch. */
  where?: Prisma.Sql;
}

/**
 * Brings a job into another state, with its event, where its present one allows that: one conditional UPDATE, so that of
 * several at once one wins.
 * @returns whether it did
 */
export async function transition(tx: Prisma.TransactionClient, jobId: string, change: Transition): Promise<boolean> {
  const { to, event, set, where } = change;
  const updated = await tx.$executeRaw`
    UPDATE jobs SET status = ${to}${FOLLOWS[to]}${set ? Prisma.sql`, ${set}` : Prisma.empty}
    WHERE id = ${jobId} AND status IN (${Prisma.join(ALLOWED_FROM[to])})${where ? Prisma.sql` AND ${where}` : Prisma.empty}`;
  if (updated === 0) return false;
  await recordEvents(tx, jobId, [event]);
  return true;
}

const NOT_PAUSED = Prisma.sql`, pause_reason = NULL, pause_message = NULL, pause_shortage = NULL`;
const ENDED = Prisma.sql`${NOT_PAUSED}, finished_at = now()`;

/** What each state says of the other columns. */
const FOLLOWS: Record<TargetStatus, Prisma.Sql> = {
  queued: Prisma.sql`${NOT_PAUSED}, finished_at = NULL, stop_reason = NULL`,
  running: Prisma.sql`${NOT_PAUSED}, epoch = epoch + 1, started_at = coalesce(started_at, now())`,
  paused: Prisma.empty,
  succeeded: ENDED,
  failed: ENDED,
  cancelled: ENDED,
};

/** 409 for a transition that the current state does not allow. */
export function illegalTransition(jobId: string, action: string, status: string): ConflictError {
  return new ConflictError({
    code: 'illegal_job_state',
    param: 'fine_tuning_job_id',
    message: `Job ${jobId} is ${status} and cannot be ${action}${isTerminal(status as JobStatus) ? ' any more' : ' now'}.`,
  });
}
