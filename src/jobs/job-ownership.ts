import { type AdapterDescription, encodeAdapter } from '../adapters/adapter-file.js';
import type { AdapterWeights, GenerationReport } from '../craft/trainer.js';
import { type Database, Prisma } from '../db/client.js';
import type { Job } from '../db/generated/client.js';
import type { CraftError } from '../errors.js';
import { newId } from '../ids.js';
import { type NewJobEvent, recordEvents } from './events.js';
import { statusesBefore } from './state-machine.js';

/** The job was cancelled, or a newer worker owns it: this worker must stop and write nothing more. */
export class OwnershipLostError extends Error {
  override readonly name = 'OwnershipLostError';
}

/** What one generation leaves behind, written in one transaction. */
export interface GenerationRecord {
  generation: number;
  metrics: JobMetrics;
  /** What is told of it; absent when an earlier run of the job told it already. */
  progress?: { best: JobMetrics; events: NewJobEvent[] };
  /** The whole training state, when this generation saves one. */
  state?: Uint8Array<ArrayBuffer>;
  /** The adapter as of now, when this generation keeps one. */
  checkpoint?: Uint8Array<ArrayBuffer>;
  /** A generation whose checkpoint this one makes superfluous. */
  superseded?: number;
}

/** Metrics of one generation in the form in which they are stored and answered. */
export type JobMetrics = {
  generation: number;
  best_fitness: number;
  mean_fitness: number;
  step_size: number;
  centre_loss: number;
  head_loss: number;
  train_accuracy: number;
  black_box_train_accuracy: number;
  validation_accuracy: number | null;
  validation_loss: number | null;
};

export function toJobMetrics(report: GenerationReport): JobMetrics {
  return {
    generation: report.generation,
    best_fitness: report.bestFitness,
    mean_fitness: report.meanFitness,
    step_size: report.stepSize,
    centre_loss: report.centreLoss,
    head_loss: report.headLoss,
    train_accuracy: report.trainAccuracy,
    black_box_train_accuracy: report.blackBoxTrainAccuracy,
    validation_accuracy: report.validationAccuracy,
    validation_loss: report.validationLoss,
  };
}

/** Between two looks; every provider call is checked anyway, this is for the waits between them. */
const WATCH_MS = 3000;

/**
 * A worker's hold on one running job. Every write carries the epoch under which the job was claimed, so a worker that
 * was replaced or whose job was cancelled is refused by Postgres.
 */
export class JobOwnership {
  private constructor(
    private readonly database: Database,
    readonly job: Job,
  ) {}

  get epoch(): number {
    return this.job.epoch;
  }

  /** Takes a queued job, or one whose worker was lost. @returns null when it is finished, cancelled or gone */
  static async claim(database: Database, jobId: string, worker: string): Promise<JobOwnership | null> {
    return database.$transaction(async (tx) => {
      const claimed = await tx.$executeRaw`
        UPDATE jobs SET status = 'running', epoch = epoch + 1, started_at = coalesce(started_at, now())
        WHERE id = ${jobId} AND status IN (${Prisma.join(statusesBefore('running'))})`;
      if (claimed === 0) return null;
      const job = await tx.job.findUniqueOrThrow({ where: { id: jobId } });
      const again = job.epoch > 1 ? `Training goes on (worker ${worker}).` : `Training started (worker ${worker}).`;
      await recordEvents(tx, jobId, [{ level: 'info', type: 'message', message: again }]);
      return new JobOwnership(database, job);
    });
  }

  /** Looks now and then whether the job is still ours; the signal fires when it was cancelled or taken over. */
  watch(): { signal: AbortSignal; stop(): void } {
    const lost = new AbortController();
    const { id, epoch } = this.job;
    const timer = setInterval(async () => {
      const held = await this.database.job.count({ where: { id, epoch, status: 'running' } }).catch(() => 1);
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

  async recordGeneration(record: GenerationRecord): Promise<void> {
    const { id: jobId } = this.job;
    await this.database.$transaction(async (tx) => {
      const { progress } = record;
      const assignments = progress
        ? Prisma.sql`generation = ${record.generation}::int, current_metrics = ${JSON.stringify(record.metrics)}::jsonb,
            best_metrics = ${JSON.stringify(progress.best)}::jsonb`
        : Prisma.sql`generation = generation`;
      await this.update(tx, assignments);
      if (record.state) {
        await tx.$executeRaw`
          INSERT INTO training_states (job_id, generation, epoch, state)
          VALUES (${jobId}, ${record.generation}::int, ${this.epoch}::int, ${record.state})
          ON CONFLICT (job_id) DO UPDATE SET generation = excluded.generation, epoch = excluded.epoch,
            state = excluded.state, updated_at = now()`;
        // The saved state holds what these answers taught.
        await tx.storedAnswer.deleteMany({ where: { jobId, generation: { lte: record.generation } } });
      }
      if (record.checkpoint) {
        // A resumed job may pass a generation again; it makes the same checkpoint.
        await tx.$executeRaw`
          INSERT INTO checkpoints (id, job_id, generation, metrics, weights)
          VALUES (${newId('ftckpt_')}, ${jobId}, ${record.generation}::int, ${JSON.stringify(record.metrics)}::jsonb,
            ${record.checkpoint})
          ON CONFLICT (job_id, generation) DO NOTHING`;
      }
      if (record.superseded !== undefined) {
        await tx.checkpoint.deleteMany({ where: { jobId, generation: record.superseded } });
      }
      if (progress) await recordEvents(tx, jobId, progress.events);
    });
  }

  /** The job's last act: the adapter and its ledger account come to be with the job's success, or not at all. */
  async succeed(result: {
    adapterId: string;
    weights: AdapterWeights;
    about: AdapterDescription;
    stopReason: string | null;
    message: string;
    openAccount: (tx: Prisma.TransactionClient, id: string, providerId: string) => Promise<void>;
  }): Promise<void> {
    const { id: jobId, providerId } = this.job;
    await this.database.$transaction(async (tx) => {
      await this.update(tx, Prisma.sql`status = 'succeeded', finished_at = now(), stop_reason = ${result.stopReason}`);
      await tx.adapter.create({
        data: {
          id: result.adapterId,
          jobId,
          providerId,
          classes: result.about.classes,
          hyperparameters: result.about.hyperparameters as Prisma.InputJsonObject,
          metrics: result.about.metrics as Prisma.InputJsonObject,
          weights: encodeAdapter(result.weights, result.about),
        },
      });
      await result.openAccount(tx, result.adapterId, providerId);
      await discardTrainingState(tx, jobId);
      await recordEvents(tx, jobId, [{ level: 'info', type: 'message', message: result.message }]);
    });
  }

  async fail({ code, message, param }: CraftError): Promise<void> {
    await this.database.$transaction(async (tx) => {
      await this.update(
        tx,
        Prisma.sql`status = 'failed', finished_at = now(), error_code = ${code}, error_message = ${message}, error_param = ${param}`,
      );
      await discardTrainingState(tx, this.job.id);
      await recordEvents(tx, this.job.id, [
        { level: 'error', type: 'message', message: `Training failed: ${message}` },
      ]);
    });
  }

  private async update(tx: Prisma.TransactionClient, assignments: Prisma.Sql): Promise<void> {
    const updated = await tx.$executeRaw`
      UPDATE jobs SET ${assignments} WHERE id = ${this.job.id} AND epoch = ${this.epoch}::int AND status = 'running'`;
    if (updated === 0) throw new OwnershipLostError(`Job ${this.job.id} is no longer this worker's.`);
  }
}

/** A job that has ended needs neither its training state nor the answers that led to the next one. */
export async function discardTrainingState(tx: Prisma.TransactionClient, jobId: string): Promise<void> {
  await tx.trainingState.deleteMany({ where: { jobId } });
  await tx.storedAnswer.deleteMany({ where: { jobId } });
}
