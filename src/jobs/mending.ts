import type { Logger } from 'pino';
import type { DatasetStore } from '../datasets/dataset-store.js';
import { type Database, Prisma } from '../db/client.js';
import type { Job } from '../db/generated/client.js';
import type { Shortage } from '../ledger/accounts.js';
import type { Ledger } from '../ledger/ledger.js';
import { attemptCall } from '../ledger/metered-call.js';
import { ReservationRefusedError } from '../ledger/reservation.js';
import { ProviderCallError } from '../providers/provider-call-error.js';
import type { ProviderStore } from '../providers/provider-store.js';
import { callTextsOf, classTextsOf, promptProblemOf, startPromptOf } from './job-question.js';
import { type JobMethod, promptSpaceOf } from './job-request.js';
import type { JobQueue } from './job-service.js';
import { openLabelledImages } from './labelled-images.js';
import type { TrainingPlan } from './plan.js';
import { probeCall } from './probe-call.js';
import { ACTIVE_STATUSES, type PauseReason, transition } from './state-machine.js';

/** Longest wait between two probes of a provider that does not answer. */
const LONGEST_PROBE_WAIT_SECONDS = 600;

export interface MendingOptions {
  database: Database;
  ledger: Ledger;
  datasets: DatasetStore;
  providers: ProviderStore;
  queue: JobQueue & { ids(): Promise<string[]> };
  worker: string;
  /** The first wait between two probes. */
  intervalSeconds: number;
  log: Logger;
}

/** Puts right what nobody else is there to put right; any number of processes may do so side by side. */
export class Mending {
  constructor(private readonly options: MendingOptions) {}

  /**
   * Puts jobs back in the queue that Postgres holds as unfinished but the queue does not know: the process died between
   * the two writes, or the queue's store was lost.
   * @returns how many
   */
  async requeueOrphans(): Promise<number> {
    const { database, queue } = this.options;
    const jobs = await database.job.findMany({ where: { status: { in: ACTIVE_STATUSES } }, select: { id: true } });
    let requeued = 0;
    for (const { id } of jobs) {
      if (await queue.has(id)) continue;
      await queue.add(id);
      requeued++;
    }
    return requeued;
  }

  /** Takes entries out of the queue whose job has ended, is paused or does not exist. @returns how many */
  async removeStrayEntries(): Promise<number> {
    const { database, queue } = this.options;
    const ids = await queue.ids();
    if (ids.length === 0) return 0;
    const known = await database.job.findMany({
      where: { id: { in: ids }, status: { in: ACTIVE_STATUSES } },
      select: { id: true },
    });
    const wanted = new Set(known.map(({ id }) => id));
    const stray = ids.filter((id) => !wanted.has(id));
    for (const id of stray) await queue.remove(id);
    return stray.length;
  }

  /** Wakes paused jobs whose deadline has passed, so that a worker ends them with what they have. */
  async wakeOverdue(): Promise<void> {
    const jobs = await this.options.database.job.findMany({
      where: { status: 'paused', deadline: { lte: new Date() } },
      select: { id: true },
    });
    for (const { id } of jobs) {
      await this.alone(id, () => this.wake(id, 'The deadline has passed: the job ends with what it has.'));
    }
  }

  /** Resumes jobs that were paused by a limit which now has room for the call they were paused at. */
  async resumeWithinLimits(): Promise<void> {
    const { database, ledger } = this.options;
    const reasons: PauseReason[] = ['provider_limit', 'provider_daily_limit', 'project_limit'];
    const jobs = await database.job.findMany({ where: { status: 'paused', pauseReason: { in: reasons } } });
    for (const job of jobs) {
      await this.alone(job.id, async () => {
        const { accountId, kind, unit, needed } = job.pauseShortage as Shortage;
        const balance =
          kind === 'provider_day'
            ? (await ledger.providerBalances(job.providerId)).today
            : await ledger.balance(accountId);
        const { remaining } = balance[unit];
        if (remaining !== null && remaining < needed) return;
        await this.wake(job.id, 'Resumed: the limit has room again.', job.pauseReason);
      });
    }
  }

  /**
   * Half-open circuit: asks each provider that jobs are paused for one query, when it is due, and resumes those jobs when
   * it answers. The query is counted on the oldest of them.
   */
  async probeProviders(): Promise<void> {
    const { database, intervalSeconds } = this.options;
    // The claim of a probe and its next date in one statement: of several processes one probes. Jobs may wait without a
    // date: who answered for them was lost before it woke them, or they were paused while it did.
    const due = await database.$queryRaw<{ id: string }[]>`
      UPDATE providers SET circuit_failures = circuit_failures + 1,
        circuit_probe_at = now() + make_interval(secs => least(
          ${LONGEST_PROBE_WAIT_SECONDS}::float8, ${intervalSeconds}::float8 * power(2, least(circuit_failures, 20))))
      WHERE circuit_probe_at <= now() OR (circuit_probe_at IS NULL AND EXISTS (
        SELECT 1 FROM jobs WHERE provider_id = providers.id AND status = 'paused' AND pause_reason = 'provider_unavailable'))
      RETURNING id`;
    await Promise.all(due.map(({ id }) => this.alone(id, () => this.probe(id))));
  }

  /** What goes wrong with one job or provider must not keep the others waiting. */
  private async alone(id: string, work: () => Promise<void>): Promise<void> {
    try {
      await work();
    } catch (err) {
      this.options.log.error({ err, id }, 'could not be mended; it is tried again');
    }
  }

  private async probe(providerId: string): Promise<void> {
    const { database, log } = this.options;
    const jobs = await database.job.findMany({
      where: { providerId, status: 'paused', pauseReason: 'provider_unavailable' },
      orderBy: { createdAt: 'asc' },
    });
    for (const job of jobs) {
      try {
        await this.askOnce(job);
      } catch (error) {
        if (error instanceof ProviderCallError) {
          log.info({ err: error, providerId }, 'a provider that jobs wait for does not answer yet');
          return;
        }
        // Ended or resumed by somebody else in this moment; another job may pay for the probe.
        if (error instanceof ReservationRefusedError) continue;
        // It cannot pay for a probe, or cannot be opened: going on, it ends, or waits, for that reason.
        log.warn({ err: error, jobId: job.id }, 'a paused job cannot be probed for');
        await this.wake(job.id, 'Resumed without a probe of its provider.', 'provider_unavailable');
        continue;
      }
      break;
    }
    await database.provider.update({
      where: { id: providerId },
      data: { circuitFailures: 0, circuitProbeAt: null },
    });
    for (const { id } of jobs) await this.wake(id, 'Resumed: the provider answers again.', 'provider_unavailable');
  }

  private async askOnce(job: Job): Promise<void> {
    const { providers, datasets, ledger, worker } = this.options;
    const provider = await providers.connect(job.providerId);
    const method = job.method as unknown as JobMethod;
    const { images, close } = await openLabelledImages(datasets, job);
    try {
      const classes = classTextsOf(images);
      const problem = promptProblemOf(promptSpaceOf(method), method, provider.capabilities, classes);
      const probe = probeCall({
        ...{ jobId: job.id, apiKeyId: job.apiKeyId, worker, provider, images },
        texts: callTextsOf(problem, classes),
        callLimits: job.plan as unknown as TrainingPlan,
        prompt: startPromptOf(problem),
        guard: { kind: 'paused_job' },
      });
      await attemptCall(ledger, probe);
    } finally {
      await close();
    }
  }

  private async wake(jobId: string, message: string, reason?: string | null): Promise<void> {
    const { database, queue } = this.options;
    const where = reason ? Prisma.sql`status = 'paused' AND pause_reason = ${reason}` : Prisma.sql`status = 'paused'`;
    const woken = await database.$transaction((tx) =>
      transition(tx, jobId, { to: 'queued', event: { level: 'info', type: 'message', message }, where }),
    );
    if (woken) await queue.add(jobId);
  }
}
