import closeWithGrace from 'close-with-grace';
import type { Logger } from 'pino';

/** Longer than a worker waits for the provider calls that its jobs have in flight. */
const SHUTDOWN_MS = 180_000;

/** What has to be closed, in this order. Whoever opens something puts its closer in front. */
export type Closers = (() => Promise<void>)[];

/**
 * Runs a command that serves until it is told to stop: `begin` opens things and registers their closers, which run on
 * SIGTERM, SIGINT, an uncaught error, when a parent process hangs up, or when `begin` itself fails.
 */
export async function serve(log: Logger, begin: (closers: Closers) => Promise<void>): Promise<void> {
  const closers: Closers = [];
  const closeAll = async () => {
    for (const close of closers.splice(0)) {
      try {
        await close();
      } catch (error) {
        log.error({ err: error }, 'a part did not close cleanly');
      }
    }
  };
  const handle = closeWithGrace({ delay: SHUTDOWN_MS, logger: false }, async ({ signal, err }) => {
    if (err) log.fatal({ err }, 'stopping after an error');
    else log.info({ signal }, 'stopping');
    await closeAll();
  });
  if (process.send) process.once('disconnect', () => void handle.close());
  try {
    await begin(closers);
  } catch (error) {
    await closeAll();
    throw error;
  }
}
