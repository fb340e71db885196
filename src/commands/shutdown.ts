import closeWithGrace from 'close-with-grace';
import type { Logger } from 'pino';

const SHUTDOWN_MS = 60_000;

/**
 * Runs the closers in order on SIGTERM, SIGINT or an uncaught error, or when `stop()` is called, then ends the process.
 */
export function closeOnSignals(log: Logger, closers: (() => Promise<void>)[]): { stop(): void } {
  const handle = closeWithGrace({ delay: SHUTDOWN_MS, logger: false }, async ({ signal, err }) => {
    if (err) log.fatal({ err }, 'stopping after an error');
    else log.info({ signal }, 'stopping');
    for (const close of closers) {
      try {
        await close();
      } catch (error) {
        log.error({ err: error }, 'a part did not close cleanly');
      }
    }
  });
  return { stop: () => void handle.close() };
}
