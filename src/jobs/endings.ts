import { Prisma } from '../db/client.js';
import type { Shortage } from '../ledger/accounts.js';
import { type PauseReason, type Transition, transition } from './state-machine.js';
import { discardTrainingState } from './training-states.js';

/** The endings of a job that its worker and others outside it can bring about, in the caller's transaction. */

/** Fails or cancels a job, with all that only its going on would have needed. @returns whether its state allowed that */
export async function endUnsuccessfully(
  tx: Prisma.TransactionClient,
  jobId: string,
  change: Transition & { to: 'failed' | 'cancelled' },
): Promise<boolean> {
  if (!(await transition(tx, jobId, change))) return false;
  await discardTrainingState(tx, jobId);
  return true;
}

/** Pauses a job; it keeps everything and goes on from there. @returns whether its state allowed that */
export async function pauseJob(
  tx: Prisma.TransactionClient,
  jobId: string,
  pause: { reason: PauseReason; message: string; shortage?: Shortage; where?: Prisma.Sql },
): Promise<boolean> {
  const { reason, message, shortage, where } = pause;
  return transition(tx, jobId, {
    to: 'paused',
    event: {
      level: reason === 'user' ? 'info' : 'warn',
      type: 'message',
      message: `Paused: ${message}`,
      data: { reason },
    },
    set: Prisma.sql`pause_reason = ${reason}, pause_message = ${message},
      pause_shortage = ${shortage === undefined ? null : JSON.stringify(shortage)}::jsonb`,
    where,
  });
}
