import { fork } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import type { Logger } from 'pino';
import { childEnvironment } from '../config.js';
import type { RunOutcome } from './runner.js';

/** Exit status of a training process that stopped because it was asked to; the job goes on elsewhere. */
export const HANDED_BACK_STATUS = 75;

/** The program that runs one job: `craft-server train-job <id>`. Tests run it from the build, too. */
const PROGRAM = fileURLToPath(new URL('../../dist/main.js', import.meta.url));

/**
 * Runs a job in a child process. When `signal` fires the child is asked to stop: it awaits the provider calls that it has
 * in flight, because they are paid for, and sends no more. It does the same when this process dies.
 * @throws Error when the child broke down; the job can be tried again
 */
export async function runInChildProcess(
  jobId: string,
  options: { signal: AbortSignal; environment: Record<string, string>; log: Logger },
): Promise<RunOutcome> {
  const child = fork(PROGRAM, ['train-job', jobId], {
    env: childEnvironment(options.environment),
    stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
  });
  const stop = () => {
    if (child.connected) child.send('stop');
  };
  options.signal.addEventListener('abort', stop, { once: true });
  if (options.signal.aborted) stop();
  try {
    const { code, signal } = await new Promise<{ code: number | null; signal: string | null }>((resolve, reject) => {
      child.once('error', reject);
      child.once('exit', (exitCode, exitSignal) => resolve({ code: exitCode, signal: exitSignal }));
    });
    if (code === 0) return 'finished';
    if (code === HANDED_BACK_STATUS || options.signal.aborted) return 'handed_back';
    throw new Error(`The training process of job ${jobId} ended with ${signal ?? `status ${code}`}.`);
  } finally {
    options.signal.removeEventListener('abort', stop);
  }
}
