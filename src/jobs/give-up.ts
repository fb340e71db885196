import { type Database, Prisma } from '../db/client.js';
import type { Ledger } from '../ledger/ledger.js';
import { endUnsuccessfully } from './endings.js';

/** Ends a job that broke down in every attempt the queue gave it, so that nobody waits for it forever. */
export async function failGivenUpJob(database: Database, ledger: Ledger, jobId: string): Promise<void> {
  const message = 'Training broke down repeatedly inside the service. The operator finds the reason in its log.';
  const failed = await database.$transaction((tx) =>
    endUnsuccessfully(tx, jobId, {
      to: 'failed',
      event: { level: 'error', type: 'message', message },
      set: Prisma.sql`error_code = 'internal_error', error_message = ${message}`,
      // One that was paused and resumed meanwhile has a new beginning before it.
      where: Prisma.sql`status = 'running'`,
    }),
  );
  if (!failed) return;
  await ledger.leaveUnknownOf(jobId);
}
