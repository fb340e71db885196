import { execFile } from 'node:child_process';
import { hostname } from 'node:os';
import { promisify } from 'node:util';

const run = promisify(execFile);

export interface ProcessRow {
  pid: number;
  parent: number;
  group: number;
  command: string;
}

/** The processes that run now; the remains of ended ones are left out. */
export async function runningProcesses(): Promise<ProcessRow[]> {
  const { stdout } = await run('ps', ['-A', '-ww', '-o', 'pid=,ppid=,pgid=,stat=,args='], {
    maxBuffer: 32 * 1024 * 1024,
  });
  return stdout.split('\n').flatMap((line) => {
    const [, pid, parent, group, state, command] = /^\s*(\d+)\s+(\d+)\s+(\d+)\s+(\S+)\s+(.*)$/.exec(line) ?? [];
    if (pid === undefined || state.startsWith('Z')) return [];
    return [{ pid: Number(pid), parent: Number(parent), group: Number(group), command }];
  });
}

/** A process that runs the jobs of a worker, its parent. */
export interface TrainingProcess {
  pid: number;
  parent: number;
  /** Its name in the ledger. */
  name: string;
}

/** @param workers in whose process groups they are, also after their parents have died */
export async function trainingProcesses(workers: { led(group: number): boolean }[]): Promise<TrainingProcess[]> {
  return (await runningProcesses()).flatMap(({ pid, parent, group, command }) =>
    command.endsWith(' train-jobs') && workers.some((worker) => worker.led(group))
      ? [{ pid, parent, name: `${hostname()}-${pid}` }]
      : [],
  );
}

/** Sends a signal to a process, or with a negative number to a group; one that has ended is left alone. */
export function signal(pid: number, name: NodeJS.Signals): void {
  try {
    process.kill(pid, name);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error;
  }
}
