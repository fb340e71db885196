import { destination, type Logger, pino } from 'pino';

/** Structured logs on standard error. Nothing in them may hold credentials or image bytes. */
export function createLogger(level: string, name: string): Logger {
  return pino(
    {
      level,
      base: { process: name, pid: process.pid },
      redact: { paths: ['*.authorization', '*.headers.authorization', '*.credentials'], censor: '[hidden]' },
      timestamp: () => `,"time":"${new Date().toISOString()}"`,
      formatters: { level: (label) => ({ level: label }) },
    },
    destination({ dest: 2, sync: true }),
  );
}
