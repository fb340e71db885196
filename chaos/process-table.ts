import { execFile } from 'node:child_process';
import { promisify } from 'node:util';

const run = promisify(execFile);

export interface ProcessRow {
  pid: number;
  parent: number;
  command: string;
}

/** The processes that run now; the remains of ended ones are left out. */
export async function runningProcesses(): Promise<ProcessRow[]> {
  const { stdout } = await run('ps', ['-A', '-ww', '-o', 'pid=,ppid=,stat=,args='], { maxBuffer: 32 * 1024 * 1024 });
  return stdout.split('\n').flatMap((line) => {
    const [, pid, parent, state, command] = /^\s*(\d+)\s+(\d+)\s+(\S+)\s+(.*)$/.exec(line) ?? [];
    return pid === undefined || state.startsWith('Z') ? [] : [{ pid: Number(pid), parent: Number(parent), command }];
  });
}

export interface TrainingProcess {
  pid: number;
  parent: number;
  jobId: string;
}

export async function trainingProcesses(): Promise<TrainingProcess[]> {
  return (await runningProcesses()).flatMap(({ pid, parent, command }) => {
    const jobId = / train-job (\S+)/.exec(command)?.[1];
    return jobId === undefined ? [] : [{ pid, parent, jobId }];
  });
}

/** Sends a signal to a process, or with a negative number to a group; one that has ended is left alone. */
export function signal(pid: number, name: NodeJS.Signals): void {
  try {
    process.kill(pid, name);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error;
  }
}
