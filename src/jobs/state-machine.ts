import { ConflictError } from '../errors.js';

/** The life of a job. Every change of `status` goes through a conditional UPDATE from one of the states listed here. */
export const JOB_STATUSES = ['validating_files', 'queued', 'running', 'succeeded', 'failed', 'cancelled'] as const;

export type JobStatus = (typeof JOB_STATUSES)[number];

const ALLOWED_FROM: Record<Exclude<JobStatus, 'validating_files'>, JobStatus[]> = {
  queued: ['validating_files'],
  running: ['queued', 'running'],
  succeeded: ['running'],
  failed: ['validating_files', 'queued', 'running'],
  cancelled: ['validating_files', 'queued', 'running'],
};

/** A job in one of these still needs its files and its provider. */
export const UNFINISHED_STATUSES: JobStatus[] = ['validating_files', 'queued', 'running'];

/** The states from which a job may enter `target`. A running job is claimed again when its worker was lost. */
export function statusesBefore(target: Exclude<JobStatus, 'validating_files'>): JobStatus[] {
  return ALLOWED_FROM[target];
}

export function isTerminal(status: JobStatus): boolean {
  return !UNFINISHED_STATUSES.includes(status);
}

/** 409 for a transition that the current state does not allow. */
export function illegalTransition(jobId: string, action: string, status: string): ConflictError {
  return new ConflictError({
    code: 'illegal_job_state',
    param: 'fine_tuning_job_id',
    message: `Job ${jobId} is ${status} and cannot be ${action} any more.`,
  });
}
