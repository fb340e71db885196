import { Prisma } from '../db/client.js';
import { newId } from '../ids.js';
import { EVENT_CHANNEL, type NewJobEvent } from './events.js';
import type { JobMetrics } from './generation-metrics.js';
import type { ScoredPrompt } from './scored-prompts.js';

/** What one generation leaves behind, written at once or not at all. */
export interface GenerationRecord {
  generation: number;
  metrics: JobMetrics;
  /** What is told of it; absent when an earlier run of the job told it already. */
  progress?: { best: JobMetrics; events: NewJobEvent[] };
  /** The whole training state, when this generation saves one. */
  state?: Uint8Array<ArrayBuffer>;
  /** The adapter as of now, when this generation keeps one. */
  checkpoint?: Uint8Array<ArrayBuffer>;
  /** Text prompts that were scored in it. */
  scored?: ScoredPrompt[];
  /** A generation whose checkpoint this one makes superfluous. */
  superseded?: number;
}

/** What a change of the budget may have changed since the job was claimed. */
export interface BudgetState {
  plannedGenerations: number;
  budgetRevision: number;
  extendsPlan: boolean;
}

/**
 * Writes all of a generation but its text prompts, in one statement: with many jobs at once, its round trips are what would
 * keep a process busy. With a training state go the states and the answers that none of the two newest states needs.
 * @returns null when the job is no longer the owner's; nothing is written then
 */
export async function writeGeneration(
  tx: Prisma.TransactionClient,
  { jobId, epoch }: { jobId: string; epoch: number },
  record: GenerationRecord,
): Promise<BudgetState | null> {
  const { generation, metrics, progress, state, checkpoint, superseded } = record;
  const parts = [
    state && stateParts(jobId, epoch, generation, state),
    // A resumed job may pass a generation again; it makes the same checkpoint.
    checkpoint &&
      Prisma.sql`kept AS (
        INSERT INTO checkpoints (id, job_id, generation, metrics, weights)
        SELECT ${newId('ftckpt_')}, ${jobId}, ${generation}::int, ${JSON.stringify(metrics)}::jsonb, ${checkpoint} FROM owned
        ON CONFLICT (job_id, generation) DO NOTHING)`,
    superseded !== undefined &&
      Prisma.sql`superseded AS (
        DELETE FROM checkpoints USING owned WHERE job_id = ${jobId} AND generation = ${superseded}::int)`,
    progress && eventParts(jobId, progress.events),
  ].filter((part) => part instanceof Prisma.Sql);
  const assignments = progress
    ? Prisma.sql`generation = ${generation}::int, current_metrics = ${JSON.stringify(metrics)}::jsonb,
        best_metrics = ${JSON.stringify(progress.best)}::jsonb`
    : Prisma.sql`generation = generation`;
  const owned = Prisma.sql`owned AS (
    UPDATE jobs SET ${assignments} WHERE id = ${jobId} AND epoch = ${epoch}::int AND status = 'running'
    RETURNING planned_generations, budget_revision, extends_plan)`;
  const notified = progress ? Prisma.sql`, pg_notify(${EVENT_CHANNEL}, ${jobId})::text` : Prisma.empty;
  const [row] = await tx.$queryRaw<{ planned_generations: number; budget_revision: number; extends_plan: boolean }[]>`
    WITH ${Prisma.join([owned, ...parts], ', ')}
    SELECT planned_generations, budget_revision, extends_plan${notified} FROM owned`;
  if (!row) return null;
  const { planned_generations: plannedGenerations, budget_revision: budgetRevision, extends_plan: extendsPlan } = row;
  return { plannedGenerations, budgetRevision, extendsPlan };
}

/** The parts see what was there before the statement: the newest state of those is the older one of the two that stay. */
function stateParts(jobId: string, epoch: number, generation: number, state: Uint8Array<ArrayBuffer>): Prisma.Sql {
  return Prisma.sql`saved AS (
    INSERT INTO training_states (job_id, generation, epoch, state)
    SELECT ${jobId}, ${generation}::int, ${epoch}::int, ${state} FROM owned
    ON CONFLICT (job_id, generation) DO UPDATE SET epoch = excluded.epoch, state = excluded.state, updated_at = now()),
  older AS (
    SELECT coalesce(max(generation), 0) AS kept FROM training_states
    WHERE job_id = ${jobId} AND generation < ${generation}::int),
  pruned AS (
    DELETE FROM training_states USING owned, older WHERE job_id = ${jobId} AND generation < older.kept),
  answered AS (
    DELETE FROM stored_answers USING owned, older WHERE job_id = ${jobId} AND generation <= older.kept)`;
}

function eventParts(jobId: string, events: NewJobEvent[]): Prisma.Sql {
  const rows = events.map(({ level, type, message, data }) => {
    return Prisma.sql`(${level}, ${type}, ${message}, ${data ? JSON.stringify(data) : null}::jsonb)`;
  });
  return Prisma.sql`told AS (
    INSERT INTO job_events (job_id, level, type, message, data)
    SELECT ${jobId}, event.* FROM owned, (VALUES ${Prisma.join(rows)}) AS event)`;
}
