import { execFileSync } from 'node:child_process';

/** Processes that run the jobs of this process's workers. */
export function trainingHosts(): number[] {
  try {
    return execFileSync('pgrep', ['-P', String(process.pid), '-f', ' train-jobs$'], { encoding: 'utf8' })
      .trim()
      .split('\n')
      .map(Number);
  } catch {
    return [];
  }
}

/** With all jobs in them. */
export function killTraining(signal: NodeJS.Signals = 'SIGKILL'): void {
  for (const pid of trainingHosts()) process.kill(pid, signal);
}
