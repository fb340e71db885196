import type { Logger } from 'pino';
import { RepeatableRequests } from '../adapters/repeatable-requests.js';
import type { Database } from '../db/client.js';
import { ImageEmbeddings } from '../embeddings/image-embeddings.js';
import type { Ledger } from '../ledger/ledger.js';
import type { Mending } from './mending.js';
import { discardOldTrainingStates } from './training-states.js';

/** Longer than any call can take: the longest time-out of a provider is ten minutes, and its turn comes before that. */
const LOST_AFTER_MINUTES = 60;

/**
 * Mends, at start and from then on, what crashes leave behind, and wakes what waits for a change outside. Several
 * processes may do this side by side.
 */
export function startUpkeep(
  mending: Mending,
  options: { database: Database; ledger: Ledger; intervalSeconds: number; log: Logger },
): { stop(): Promise<void> } {
  const { database, ledger, intervalSeconds, log } = options;
  const steps: [what: string, step: () => Promise<unknown>][] = [
    ['jobs that the queue had lost were put back', () => mending.requeueOrphans()],
    ['queue entries without a job to work on were removed', () => mending.removeStrayEntries()],
    ['overdue jobs', () => mending.wakeOverdue()],
    ['jobs within their limits again', () => mending.resumeWithinLimits()],
    ['providers that jobs wait for', () => mending.probeProviders()],
    ['calls of lost processes stay counted', () => ledger.leaveUnknownOlderThan(LOST_AFTER_MINUTES)],
    ['training states of jobs that ended long ago were dropped', () => discardOldTrainingStates(database)],
    [
      'answers to repeatable requests',
      // Every one in the end, which is nothing to be told of.
      () => new RepeatableRequests(database, log).dropOld().then(() => undefined),
    ],
    ['embeddings of images that are long paid for were dropped', () => new ImageEmbeddings(database).dropOld()],
  ];
  const mend = async () => {
    for (const [what, step] of steps) {
      try {
        const count = await step();
        if (typeof count === 'number' && count > 0) log.warn({ count }, what);
      } catch (err) {
        log.warn({ err, step: what }, 'upkeep did not get through; it is tried again');
      }
    }
  };
  let stopped = false;
  let wake = () => {};
  const running = (async () => {
    while (!stopped) {
      await mend();
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, intervalSeconds * 1000);
        wake = () => {
          clearTimeout(timer);
          resolve();
        };
        if (stopped) wake();
      });
    }
  })();
  return {
    async stop() {
      stopped = true;
      wake();
      await running;
    },
  };
}
