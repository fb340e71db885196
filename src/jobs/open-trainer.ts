import type { Logger } from 'pino';
import type { ComputeName, HeadShape } from '../craft/compute.js';
import { CheckpointError } from '../craft/errors.js';
import type { Trainer } from '../craft/trainer-interface.js';
import type { TrainingSpec } from '../craft/training.js';
import type { Database } from '../db/client.js';
import type { Job } from '../db/generated/client.js';
import type { StoredAnswers } from './stored-answers.js';
import type { TrainingThreads } from './threads/training-threads.js';

/** A resumed job goes on with the backend it began with, where it can be had: only there are its numbers the same. */
export async function selectCompute(
  { threads, compute: choice }: { threads: TrainingThreads; compute: ComputeName | 'auto' },
  { compute: before }: Pick<Job, 'compute'>,
  shape: HeadShape | null,
): Promise<ComputeName> {
  const same =
    before !== null && choice === 'auto' ? await threads.select(before as ComputeName).catch(() => null) : null;
  return same ?? threads.select(choice, shape);
}

/**
 * Opens the trainer of a job: as its newest saved state that can be read left it, or from the seed, where all since is in the
 * answers that are kept.
 * @throws CheckpointError when there is nothing left that it could go on from
 */
export async function openTrainer(
  { threads, database, log }: { threads: TrainingThreads; database: Database; log: Logger },
  job: Pick<Job, 'id' | 'generation'>,
  { spec, compute, answers }: { spec: TrainingSpec; compute: ComputeName; answers: StoredAnswers },
): Promise<Trainer> {
  const saved = await database.trainingState.findMany({
    where: { jobId: job.id },
    orderBy: { generation: 'desc' },
  });
  let damage: unknown = null;
  for (const { generation, state } of saved) {
    try {
      return await threads.open(spec, compute, state);
    } catch (error) {
      if (!(error instanceof CheckpointError)) throw error;
      log.error({ err: error, jobId: job.id, generation }, 'a saved training state cannot be read');
      damage = error;
    }
  }
  if (damage) throw damage;
  if (job.generation > 0 && !answers.has(1, 0)) {
    throw new CheckpointError('What the job would go on from is no longer kept.');
  }
  return threads.open(spec, compute);
}
