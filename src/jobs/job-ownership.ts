import type { AdapterDescription } from '../adapters/adapter-file.js';
import { type Database, Prisma } from '../db/client.js';
import type { Job } from '../db/generated/client.js';
import type { CraftError } from '../errors.js';
import { endUnsuccessfully, pauseJob } from './endings.js';
import { recordEvents } from './events.js';
import type { JobMetrics } from './generation-metrics.js';
import { type BudgetState, type GenerationRecord, writeGeneration } from './generation-record.js';
import type { Pause } from './pause.js';
import { writeScoredPrompts } from './scored-prompts.js';
import { transition } from './state-machine.js';

/** The job was cancelled, or a newer worker owns it: this worker must stop and write nothing more. */
export class OwnershipLostError extends Error {
  override readonly name = 'OwnershipLostError';
}

/** Between two looks; every provider call is checked anyway, this is for the waits between them. */
const WATCH_MS = 3000;

/**
 * A worker's hold on one running job. Every write carries the epoch under which the job was claimed, so a worker that
 * was replaced or whose job was cancelled is refused by Postgres.
 */
export class JobOwnership {
  /** What a change of the budget may have changed since the job was claimed. */
  private current: BudgetState;

  private constructor(
    private readonly database: Database,
    readonly job: Job,
  ) {
    this.current = job;
  }

  get epoch(): number {
    return this.job.epoch;
  }

  /** Takes a queued job, or one whose worker was lost. @returns null when it is finished, paused or gone */
  static async claim(database: Database, jobId: string, worker: string): Promise<JobOwnership | null> {
    return database.$transaction(async (tx) => {
      const before = await tx.job.findUnique({ where: { id: jobId }, select: { epoch: true } });
      const message =
        before?.epoch === 0 ? `Training started (worker ${worker}).` : `Training goes on (worker ${worker}).`;
      const event = { level: 'info', type: 'message', message } as const;
      if (!(await transition(tx, jobId, { to: 'running', event }))) return null;
      return new JobOwnership(database, await tx.job.findUniqueOrThrow({ where: { id: jobId } }));
    });
  }

  /** Which of the job's budgets is known here; an end that was decided on an older one is refused. */
  get budgetRevision(): number {
    return this.current.budgetRevision;
  }

  /** Whether what the budget has left at the end of the plan is to be spent. */
  get extendsPlan(): boolean {
    return this.current.extendsPlan;
  }

  /** As many generations as the budget pays for by now. */
  get plannedGenerations(): number {
    return this.current.plannedGenerations;
  }

  /**
   * Looks now and then whether the job is still ours; the signal fires when it was ended, paused or taken over, and when
   * its deadline passes, so that calls that wait for their turn are not sent any more.
   */
  watch(): { signal: AbortSignal; stop(): void } {
    const lost = new AbortController();
    const { id, epoch, deadline } = this.job;
    // A run that begins after the deadline is there to end the job with what it has.
    const endsJob = deadline !== null && deadline.getTime() <= Date.now();
    const timer = setInterval(async () => {
      const inTime = endsJob ? {} : { OR: [{ deadline: null }, { deadline: { gt: new Date() } }] };
      const held = await this.database.job.count({ where: { id, epoch, status: 'running', ...inTime } }).catch(() => 1);
      if (held === 0) lost.abort();
    }, WATCH_MS);
    return { signal: lost.signal, stop: () => clearInterval(timer) };
  }

  async setCompute(compute: string, before: string | null): Promise<void> {
    await this.database.$transaction(async (tx) => {
      await this.update(tx, Prisma.sql`compute = ${compute}`);
      if (before === null || before === compute) return;
      const message = `Training goes on with ${compute} instead of ${before}; the last digits of its figures may differ.`;
      await recordEvents(tx, this.job.id, [{ level: 'warn', type: 'message', message }]);
    });
  }

  /** What an earlier run told of one of its generations. */
  async metricsOf(generation: number): Promise<JobMetrics> {
    const event = await this.database.jobEvent.findFirstOrThrow({
      where: { jobId: this.job.id, type: 'metrics', data: { path: ['step'], equals: generation } },
    });
    const { step: _, ...metrics } = event.data as JobMetrics & { step: number };
    return metrics;
  }

  /** Plans more generations than at first, on the budget as it is known here. @returns false when it was changed */
  async extendPlan(generations: number): Promise<boolean> {
    return this.database.$transaction(async (tx) => {
      const planned = this.plannedGenerations + generations;
      const changed = await tx.job.updateMany({
        where: { id: this.job.id, epoch: this.epoch, status: 'running', budgetRevision: this.budgetRevision },
        data: { plannedGenerations: planned },
      });
      if (changed.count === 0) return false;
      const message = `The plan cost less than it was expected to at most; the budget pays for ${planned} generations.`;
      await recordEvents(tx, this.job.id, [{ level: 'info', type: 'message', message }]);
      this.current = { ...this.current, plannedGenerations: planned };
      return true;
    });
  }

  async recordGeneration(record: GenerationRecord): Promise<void> {
    const { job, epoch } = this;
    const owner = { jobId: job.id, epoch };
    const { scored } = record;
    const write = async (tx: Prisma.TransactionClient) => {
      const budget = await writeGeneration(tx, owner, record);
      if (!budget) throw this.lost();
      this.current = budget;
    };
    if (!scored?.length) return write(this.database);
    await this.database.$transaction(async (tx) => {
      await write(tx);
      await writeScoredPrompts(tx, job.id, record.generation, scored);
    });
  }

  /**
   * The job's last act: the adapter and its ledger account come to be with the job's success, or not at all.
   * @returns false when the budget was changed meanwhile, so that the job is not at its end
   */
  async succeed(result: {
    adapterId: string;
    /** The adapter's file. */
    file: Uint8Array<ArrayBuffer>;
    about: AdapterDescription;
    /** Of the last generation, with the figures of the adapter as of then. */
    current: JobMetrics | null;
    stopReason: string | null;
    /** The budget's revision on which this end was decided. */
    budgetRevision: number;
    message: (adapterId: string) => string;
    openAccount: (tx: Prisma.TransactionClient, id: string, providerId: string) => Promise<void>;
  }): Promise<boolean> {
    const { id: jobId, providerId } = this.job;
    return this.database.$transaction(async (tx) => {
      const { file, current } = result;
      const earlier = await tx.adapter.findFirst({ where: { jobId, deletedAt: null }, orderBy: { createdAt: 'desc' } });
      // A job that went on, but not by one whole generation, has the adapter that it had.
      const unchanged = earlier !== null && Buffer.from(earlier.weights).equals(file);
      const message = result.message(unchanged ? earlier.id : result.adapterId);
      const succeeded = await transition(tx, jobId, {
        to: 'succeeded',
        event: { level: 'info', type: 'message', message },
        set: Prisma.join([
          Prisma.sql`stop_reason = ${result.stopReason}`,
          ...(current ? [Prisma.sql`current_metrics = ${JSON.stringify(current)}::jsonb`] : []),
        ]),
        where: this.decidedOn(result.budgetRevision),
      });
      if (!succeeded) {
        // Ours still, or the job would not be running under our epoch.
        await this.update(tx, Prisma.sql`generation = generation`);
        return false;
      }
      if (unchanged) return true;
      await tx.adapter.create({
        data: {
          id: result.adapterId,
          jobId,
          providerId,
          classes: result.about.classes,
          hyperparameters: result.about.hyperparameters as Prisma.InputJsonObject,
          metrics: result.about.metrics as Prisma.InputJsonObject,
          weights: file,
        },
      });
      await result.openAccount(tx, result.adapterId, providerId);
      return true;
    });
  }

  async fail({ code, message, param }: CraftError, budgetRevision: number): Promise<void> {
    await this.end((tx) =>
      endUnsuccessfully(tx, this.job.id, {
        to: 'failed',
        event: { level: 'error', type: 'message', message: `Training failed: ${message}` },
        set: Prisma.sql`error_code = ${code}, error_message = ${message}, error_param = ${param}`,
        where: this.decidedOn(budgetRevision),
      }),
    );
  }

  /** Leaves the job where it is until something outside it changes. */
  async pause({ reason, message, shortage }: Pause, budgetRevision: number): Promise<void> {
    await this.end(async (tx) => {
      const paused = await pauseJob(tx, this.job.id, {
        reason,
        message,
        shortage,
        where: this.decidedOn(budgetRevision),
      });
      if (paused && reason === 'provider_unavailable') {
        await tx.provider.updateMany({
          where: { id: this.job.providerId, circuitProbeAt: null },
          data: { circuitProbeAt: new Date(), circuitFailures: 0 },
        });
      }
      return paused;
    });
  }

  /** Whether the job is still this worker's to go on with. */
  async holds(): Promise<boolean> {
    const { id, epoch } = this.job;
    return (await this.database.job.count({ where: { id, epoch, status: 'running' } })) > 0;
  }

  private decidedOn(budgetRevision: number): Prisma.Sql {
    return Prisma.sql`epoch = ${this.epoch}::int AND budget_revision = ${budgetRevision}::int`;
  }

  private async end(work: (tx: Prisma.TransactionClient) => Promise<boolean>): Promise<void> {
    if (!(await this.database.$transaction(work))) {
      throw new OwnershipLostError(`Job ${this.job.id} is no longer this worker's, or its budget was changed.`);
    }
  }

  private async update(tx: Prisma.TransactionClient, assignments: Prisma.Sql) {
    const [row] = await tx.$queryRaw<{ planned_generations: number; budget_revision: number; extends_plan: boolean }[]>`
      UPDATE jobs SET ${assignments} WHERE id = ${this.job.id} AND epoch = ${this.epoch}::int AND status = 'running'
      RETURNING planned_generations, budget_revision, extends_plan`;
    if (!row) throw this.lost();
    const { planned_generations: plannedGenerations, budget_revision: budgetRevision, extends_plan: extendsPlan } = row;
    return { plannedGenerations, budgetRevision, extendsPlan };
  }

  private lost(): OwnershipLostError {
    return new OwnershipLostError(`Job ${this.job.id} is no longer this worker's.`);
  }
}
