import type { Database, Prisma } from '../db/client.js';

/**
 * Saved training states. Of an unfinished job the two newest are kept, and every answer that going on from the older one
 * would need; so a state that turns out damaged costs no query. A job that has succeeded keeps them for a while, because
 * its budget may be raised; one that failed or was cancelled keeps none.
 */

/** How long after its success a job can still go on. */
export const KEPT_DAYS = 7;

export async function discardTrainingState(tx: Prisma.TransactionClient, jobId: string): Promise<void> {
  await tx.trainingState.deleteMany({ where: { jobId } });
  await tx.storedAnswer.deleteMany({ where: { jobId } });
  await tx.scoredPrompt.deleteMany({ where: { jobId } });
}

/** Drops what jobs that succeeded long ago kept. @returns how many states */
export async function discardOldTrainingStates(database: Database): Promise<number> {
  return database.$transaction(async (tx) => {
    // Held, so that none of them goes on meanwhile; what is held by others is left for later.
    const jobs = await tx.$queryRaw<{ id: string }[]>`
      SELECT id FROM jobs WHERE status = 'succeeded' AND finished_at < now() - make_interval(days => ${KEPT_DAYS}::int)
        AND (EXISTS (SELECT 1 FROM training_states WHERE job_id = jobs.id)
          OR EXISTS (SELECT 1 FROM stored_answers WHERE job_id = jobs.id)
          OR EXISTS (SELECT 1 FROM scored_prompts WHERE job_id = jobs.id))
      LIMIT 100 FOR UPDATE SKIP LOCKED`;
    const jobId = { in: jobs.map(({ id }) => id) };
    await tx.storedAnswer.deleteMany({ where: { jobId } });
    await tx.scoredPrompt.deleteMany({ where: { jobId } });
    return (await tx.trainingState.deleteMany({ where: { jobId } })).count;
  });
}
