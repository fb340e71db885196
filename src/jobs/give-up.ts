import { type Database, Prisma } from '../db/client.js';
import type { Ledger } from '../ledger/ledger.js';
import { recordEvents } from './events.js';
import { discardTrainingState } from './job-ownership.js';
import { statusesBefore } from './state-machine.js';

/** Ends a job that broke down in every attempt the queue gave it, so that nobody waits for it forever. */
export async function failGivenUpJob(database: Database, ledger: Ledger, jobId: string): Promise<void> {
  const message = 'Training broke down repeatedly inside the service. The operator finds the reason in its log.';
  await database.$transaction(async (tx) => {
    const failed = await tx.$executeRaw`
      UPDATE jobs SET status = 'failed', finished_at = now(), error_code = 'internal_error', error_message = ${message}
      WHERE id = ${jobId} AND status IN (${Prisma.join(statusesBefore('failed'))})`;
    if (failed === 0) return;
    await discardTrainingState(tx, jobId);
    await recordEvents(tx, jobId, [{ level: 'error', type: 'message', message }]);
  });
  await ledger.leaveUnknownOf(jobId);
}
