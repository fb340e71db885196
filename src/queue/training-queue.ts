import type { Logger } from 'pino';
import { type JobQueue, openBullQueue, type QueueConnection } from './connection.js';

export interface QueueCounts {
  waiting: number;
  active: number;
  /** Waiting for another attempt after one that broke. */
  delayed: number;
  /** Given up after the last attempt; adding them again starts anew. */
  failed: number;
}

/** The training jobs that are to be worked on, by the ids they have in the database. */
export interface TrainingQueue {
  /**
   * Asks for a job to be processed once after this call. Repeating it while the job waits changes nothing; a job
   * that is being processed runs once more afterwards, because its end may have been decided before this call.
   */
  add(jobId: string): Promise<void>;
  /** Takes a job out. One that is being processed stays; its processor finds out from the database. */
  remove(jobId: string): Promise<void>;
  /** Whether the job waits, is being processed, or will be tried again. */
  has(jobId: string): Promise<boolean>;
  /** The ids of all jobs that wait, are being processed, or will be tried again. */
  ids(): Promise<string[]>;
  counts(): Promise<QueueCounts>;
  /** @throws when the store of the queue does not answer. */
  ping(): Promise<void>;
  close(): Promise<void>;
}

const ATTEMPTS = 10;

/** Opens the producing side of the queue, creating its tables where they are missing. */
export async function openTrainingQueue(connection: QueueConnection, log: Logger): Promise<TrainingQueue> {
  const { bull, disconnect } = await openBullQueue(
    connection,
    {
      defaultJobOptions: {
        attempts: ATTEMPTS,
        backoff: { type: 'capped' },
        removeOnComplete: { age: 3600, count: 1000 },
        removeOnFail: { age: 7 * 24 * 3600, count: 1000 },
        stackTraceLimit: 2,
      },
    },
    log,
  );
  return {
    add: (jobId) => addJob(bull, jobId),
    async remove(jobId) {
      await bull.remove(jobId);
    },
    async has(jobId) {
      const job = await bull.getJob(jobId);
      if (job === undefined) return false;
      return !isOver(await job.getState());
    },
    async ids() {
      const jobs = await bull.getJobs(['waiting', 'prioritized', 'active', 'delayed']);
      return jobs.flatMap((job) => (job?.id === undefined ? [] : [job.id]));
    },
    async counts() {
      const counts = await bull.getJobCounts('waiting', 'prioritized', 'active', 'delayed', 'failed');
      return {
        waiting: (counts.waiting ?? 0) + (counts.prioritized ?? 0),
        active: counts.active ?? 0,
        delayed: counts.delayed ?? 0,
        failed: counts.failed ?? 0,
      };
    },
    async ping() {
      await bull.getJobCounts('active');
    },
    async close() {
      await bull.close();
      await disconnect();
    },
  };
}

/** Adds a job or, where it is known already, makes sure that it is processed after now. */
async function addJob(queue: JobQueue, jobId: string): Promise<void> {
  const known = await queue.getJob(jobId);
  if (known === undefined) {
    await queue.add('train', { requests: 0 }, { jobId });
    return;
  }
  // The worker compares this count before and after the processing; so nothing asked for meanwhile is lost.
  // Where the job has gone in this moment the update fails, and the state says so.
  await known.updateData({ requests: known.data.requests + 1 }).catch(() => {});
  if (isOver(await known.getState())) {
    // BullMQ ignores an id that it keeps as finished.
    await queue.remove(jobId);
    await queue.add('train', { requests: 0 }, { jobId });
  }
}

function isOver(state: string): boolean {
  return state === 'completed' || state === 'failed' || state === 'unknown';
}
