import type { Logger } from 'pino';
import type { Ledger } from '../ledger/ledger.js';
import type { JobService } from './job-service.js';

const EVERY_MS = 30_000;
/** Longer than any call can take: the longest time-out of a provider is ten minutes, and its turn comes before that. */
const LOST_AFTER_MINUTES = 60;

/**
 * Mends, at start and from then on, what crashes leave behind: unfinished jobs that the queue does not know, and
 * reservations of processes that are gone. Several processes may do this side by side.
 */
export function startUpkeep(jobs: JobService, ledger: Ledger, log: Logger): { stop(): Promise<void> } {
  let running: Promise<void> = Promise.resolve();
  const mend = async () => {
    try {
      const requeued = await jobs.requeueOrphans();
      if (requeued > 0) log.warn({ jobs: requeued }, 'jobs that the queue had lost were put back');
      const lost = await ledger.leaveUnknownOlderThan(LOST_AFTER_MINUTES);
      if (lost > 0) log.warn({ calls: lost }, 'calls of lost processes stay counted');
    } catch (err) {
      log.warn({ err }, 'upkeep did not get through; it is tried again');
    }
  };
  const timer = setInterval(() => {
    running = running.then(mend);
  }, EVERY_MS);
  running = mend();
  return {
    async stop() {
      clearInterval(timer);
      await running;
    },
  };
}
