import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { childEnvironment } from '../config.js';
import type { RunOutcome } from './runner.js';

/** The program that runs jobs: `craft-server train-jobs`. Tests run it from the build, too. */
const PROGRAM = fileURLToPath(new URL('../../dist/main.js', import.meta.url));

/** What a worker says to its host. Runs have numbers: of one job a run may begin while another one is still stopping. */
export type HostRequest =
  | { kind: 'run'; run: number; jobId: string }
  /** The run awaits the provider calls that it has in flight, because they are paid for, and sends no more. */
  | { kind: 'stop'; run: number };

export type HostReply =
  | { kind: 'ended'; run: number; outcome: RunOutcome }
  /** The run broke off; the job can be tried again. */
  | { kind: 'broke'; run: number; reason: string }
  /** It was told to stop, and hands back all that it runs. */
  | { kind: 'stopping' };

/** The process died with this run. */
export class HostLostError extends Error {
  override readonly name = 'HostLostError';
}

interface HostProcess {
  child: ChildProcess;
  runs: Map<number, { jobId: string; resolve(outcome: RunOutcome): void; reject(error: Error): void }>;
}

/**
 * The process that runs the jobs of a worker, all of them side by side. It outlives its jobs, and is started anew after it
 * has died. When this process dies, all of its runs stop.
 */
export class TrainingHost {
  private current: HostProcess | null = null;
  private readonly exits = new Set<Promise<unknown>>();
  private lastRun = 0;
  private running = 0;

  constructor(private readonly environment: Record<string, string>) {}

  /** Starts the process, so that the first job need not wait for it. */
  warm(): void {
    this.current ??= this.start();
  }

  /**
   * Runs a job. When `signal` fires, its run is asked to stop.
   * @throws HostLostError when the process died; Error when the run broke off in it; the job can be tried again
   */
  async run(jobId: string, signal: AbortSignal): Promise<RunOutcome> {
    this.current ??= this.start();
    const { child, runs } = this.current;
    const run = ++this.lastRun;
    const stop = () => send(child, { kind: 'stop', run });
    this.running++;
    try {
      return await new Promise<RunOutcome>((resolve, reject) => {
        runs.set(run, { jobId, resolve, reject });
        send(child, { kind: 'run', run, jobId });
        signal.addEventListener('abort', stop, { once: true });
        if (signal.aborted) stop();
      });
    } catch (error) {
      if (error instanceof HostLostError && signal.aborted) return 'handed_back';
      throw error;
    } finally {
      this.running--;
      runs.delete(run);
      signal.removeEventListener('abort', stop);
    }
  }

  /** Lets go of the process, which stops what it runs and then ends; waits for that where nothing runs. */
  async close(): Promise<void> {
    const { current } = this;
    this.current = null;
    if (current?.child.connected) current.child.disconnect();
    if (this.running === 0) await Promise.all(this.exits);
  }

  private start(): HostProcess {
    const child = fork(PROGRAM, ['train-jobs'], {
      env: childEnvironment(this.environment),
      stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
    });
    const started: HostProcess = { child, runs: new Map() };
    const { runs } = started;
    const forget = () => {
      if (this.current === started) this.current = null;
    };
    const lose = (how: string) => {
      forget();
      for (const { jobId, reject } of runs.values()) {
        reject(new HostLostError(`The training process of job ${jobId} ${how}.`));
      }
    };
    child.on('message', (reply: HostReply) => {
      if (reply.kind === 'stopping') forget();
      else if (reply.kind === 'ended') runs.get(reply.run)?.resolve(reply.outcome);
      else runs.get(reply.run)?.reject(new Error(reply.reason));
    });
    child.on('error', (error) => {
      // A process that never began does not exit either.
      if (child.pid === undefined) lose(`could not be started: ${error.message}`);
    });
    child.once('exit', (status, signal) => lose(`ended with ${signal ?? `status ${status}`}`));
    if (child.pid !== undefined) {
      const exit = once(child, 'exit').finally(() => this.exits.delete(exit));
      this.exits.add(exit);
    }
    return started;
  }
}

function send(child: ChildProcess, request: HostRequest): void {
  // One that has just died is met by its exit.
  if (child.connected) child.send(request, () => {});
}
