import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { openSync } from 'node:fs';
import { signal } from './process-table.js';

const RESTART_MS = 500;

/**
 * A command of craft-server that is started again whenever it ends, as a supervisor would. It leads a process group of
 * its own, so that it can be killed or frozen together with what it has started.
 */
export class SupervisedProcess {
  /** How often it ended without having been killed. */
  endedByItself = 0;
  private readonly groups = new Set<number>();
  private readonly log: number;
  private child: ChildProcess | undefined;
  private timer: NodeJS.Timeout | undefined;
  private restartMs: number | undefined;
  private stopped = false;

  constructor(
    readonly name: string,
    private readonly program: string,
    private readonly command: string,
    private readonly environment: NodeJS.ProcessEnv,
    logFile: string,
  ) {
    this.log = openSync(logFile, 'a');
  }

  start(): void {
    // It also ends when this process does, because the IPC channel breaks then.
    const child = fork(this.program, [this.command], {
      env: this.environment,
      detached: true,
      stdio: ['ignore', this.log, this.log, 'ipc'],
    });
    this.child = child;
    if (child.pid !== undefined) this.groups.add(child.pid);
    child.once('exit', () => {
      this.child = undefined;
      if (this.stopped) return;
      if (this.restartMs === undefined) this.endedByItself++;
      this.timer = setTimeout(() => this.start(), this.restartMs ?? RESTART_MS);
      this.restartMs = undefined;
    });
  }

  get pid(): number | undefined {
    return this.child?.pid;
  }

  /** Whether this was its process group in one of its lives. */
  led(group: number): boolean {
    return this.groups.has(group);
  }

  /** Kills the process, alone or with all that it has started, and has it started again after a while. */
  async kill(what: 'alone' | 'group', restartMs: number): Promise<boolean> {
    const { child } = this;
    if (child?.pid === undefined) return false;
    this.restartMs = restartMs;
    const ended = once(child, 'exit');
    signal(what === 'group' ? -child.pid : child.pid, 'SIGKILL');
    await ended;
    return true;
  }

  /** Kills whatever is left of all its lives. */
  stop(): void {
    this.stopped = true;
    clearTimeout(this.timer);
    for (const group of this.groups) signal(-group, 'SIGKILL');
  }
}
