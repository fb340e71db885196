import { Job, WaitingError } from 'bullmq';
import type { Logger } from 'pino';
import { type JobData, type JobWorker, openBullWorker, type QueueConnection } from './connection.js';

/** Thrown by a processor that stopped because it was asked to: the job goes back to the queue for another worker. */
export class HandBack extends Error {
  override readonly name = 'HandBack';

  constructor(message = 'The worker is closing.') {
    super(message);
  }
}

/** Reason of the abort signal when another worker may have taken the job over. */
export class LockLostError extends Error {
  override readonly name = 'LockLostError';
}

export interface TrainingWorkerOptions {
  /** Jobs processed side by side. */
  concurrency: number;
  /** After this time without a sign of life from its worker a job is given to another one. */
  lockDurationMs?: number;
  stalledIntervalMs?: number;
  /**
   * Works on one job and writes its outcome to the database. Returning ends the job; throwing `HandBack` gives it back
   * at once; throwing anything else has it tried again later. The signal fires when the worker closes (its reason is a
   * `HandBack`) and when the lock is lost (`LockLostError`).
   */
  process: (jobId: string, signal: AbortSignal) => Promise<void>;
  onLockLost?: (jobId: string) => void;
  /** Called after the last attempt of a job broke off; nobody takes it any more unless it is added again. */
  onGivenUp?: (jobId: string) => Promise<void>;
  log: Logger;
}

export interface TrainingWorker {
  /**
   * Takes no more jobs, asks the running ones to stop and waits for them. A job that does not stop in time is left
   * behind; its lock lapses and another worker takes it.
   */
  close(graceMs?: number): Promise<void>;
}

const BACKOFF_BASE_MS = 1_000;
const BACKOFF_LIMIT_MS = 60_000;
const DEFAULT_GRACE_MS = 30_000;
const DISCONNECT_MS = 5_000;
/** After the queue's store was away; BullMQ's own 15 seconds would leave a worker idle long after it is back. */
const STORE_RETRY_MS = 1_000;

/** Starts taking jobs from the queue. */
export async function startTrainingWorker(
  connection: QueueConnection,
  options: TrainingWorkerOptions,
): Promise<TrainingWorker> {
  const { log } = options;
  const running = new Map<string, AbortController>();
  const followUps = new Set<Promise<void>>();
  let closing: Promise<void> | undefined;

  async function processJob(job: Job<JobData>, token?: string): Promise<void> {
    const jobId = job.id!;
    const controller = new AbortController();
    if (closing !== undefined) controller.abort(new HandBack());
    running.set(jobId, controller);
    try {
      controller.signal.throwIfAborted();
      await options.process(jobId, controller.signal);
    } catch (error) {
      if (controller.signal.reason instanceof LockLostError) throw new WaitingError();
      if (!(error instanceof HandBack) && !controller.signal.aborted) {
        log.warn({ err: error, jobId, attempt: job.attemptsMade + 1 }, 'a training job broke off');
        throw error;
      }
      await job.moveToWait(token);
      // Tells BullMQ that the job is taken care of.
      throw new WaitingError();
    } finally {
      if (running.get(jobId) === controller) running.delete(jobId);
    }
    if (controller.signal.reason instanceof LockLostError) throw new WaitingError();
  }

  const { bull, disconnect } = await openBullWorker(
    connection,
    processJob,
    {
      concurrency: options.concurrency,
      lockDuration: options.lockDurationMs ?? 30_000,
      stalledInterval: options.stalledIntervalMs ?? 15_000,
      // A crash of its worker says nothing against a job; how often one is resumed is not for the queue to limit. (Postgres
      // takes no more than 32 bits here.)
      maxStalledCount: 1_000_000,
      runRetryDelay: STORE_RETRY_MS,
      settings: {
        backoffStrategy: (attempts) => Math.min(BACKOFF_BASE_MS * 2 ** (attempts - 1), BACKOFF_LIMIT_MS),
      },
    },
    log,
  );

  bull.on('lockRenewalFailed', (jobIds) => {
    for (const jobId of jobIds) {
      const controller = running.get(jobId);
      if (controller === undefined) continue;
      controller.abort(new LockLostError(`The lock of job ${jobId} was lost; another worker may have taken it.`));
      log.warn({ jobId }, 'lost the lock of a training job; another worker may have taken it');
      options.onLockLost?.(jobId);
    }
  });
  const followUp = (job: Job<JobData> | undefined, state: 'completed' | 'failed') => {
    const work = runAgainIfAsked(bull, job, state)
      .catch((err) => log.warn({ err, jobId: job?.id }, 'could not see whether a training job is to run again'))
      .finally(() => followUps.delete(work));
    followUps.add(work);
  };
  bull.on('completed', (job) => followUp(job, 'completed'));
  bull.on('failed', (job) => {
    followUp(job, 'failed');
    if (job?.id === undefined || job.attemptsMade < (job.opts.attempts ?? 1)) return;
    const { id: jobId } = job;
    log.error({ jobId, attempts: job.attemptsMade }, 'a training job is given up');
    options.onGivenUp?.(jobId).catch((err) => log.error({ err, jobId }, 'could not record that a job is given up'));
  });

  async function close(graceMs: number): Promise<void> {
    for (const controller of running.values()) controller.abort(new HandBack());
    const inTime = await settlesWithin(bull.pause(), graceMs);
    if (!inTime) log.warn({ jobs: [...running.keys()] }, 'training jobs did not stop in time; they are left behind');
    await Promise.all(followUps);
    await settlesWithin(bull.close(!inTime), DISCONNECT_MS);
    await disconnect();
  }

  return {
    close(graceMs = DEFAULT_GRACE_MS) {
      closing ??= Promise.resolve().then(() => close(graceMs));
      return closing;
    },
  };
}

/** Enqueues a job that has just ended once more when it was asked for while it was being processed. */
async function runAgainIfAsked(
  worker: JobWorker,
  job: Job<JobData> | undefined,
  state: 'completed' | 'failed',
): Promise<void> {
  if (job?.id === undefined) return;
  const now = await Job.fromId<JobData>(worker, job.id);
  if (now === undefined || now.data.requests === job.data.requests) return;
  if ((await now.getState()) !== state) return;
  await now.retry(state, { resetAttemptsMade: true, resetAttemptsStarted: true });
}

async function settlesWithin(work: Promise<unknown>, milliseconds: number): Promise<boolean> {
  let timer: NodeJS.Timeout | undefined;
  const timeout = new Promise<false>((resolve) => {
    timer = setTimeout(() => resolve(false), milliseconds);
  });
  const done = work.then(
    () => true,
    () => true,
  );
  return Promise.race([done, timeout]).finally(() => clearTimeout(timer));
}
