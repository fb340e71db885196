import { type DestinationStream, destination, type Logger, pino } from 'pino';

/**
 * Structured logs on standard error. Nothing in them may hold credentials or image bytes (the errors of Redis' client hold
 * its command, which may be the one that logs in).
 */
export function createLogger(
  level: string,
  name: string,
  stream: DestinationStream = destination({ dest: 2, sync: true }),
): Logger {
  return pino(
    {
      level,
      base: { process: name, pid: process.pid },
      redact: {
        paths: ['*.authorization', '*.headers.authorization', '*.credentials', '*.command'],
        censor: '[hidden]',
      },
      timestamp: () => `,"time":"${new Date().toISOString()}"`,
      formatters: { level: (label) => ({ level: label }) },
    },
    stream,
  );
}
