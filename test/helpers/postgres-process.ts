import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';

export interface PostgresUser {
  connectionString: string;
  /** Gives the server back in good order. */
  close(): Promise<void>;
  /** Ends the process as a crash would. */
  kill(): Promise<void>;
}

/** Another process that opens the embedded Postgres of a data directory. */
export async function startPostgresUser(dataDirectory: string): Promise<PostgresUser> {
  const script = fileURLToPath(new URL('postgres-child.mjs', import.meta.url));
  const child = spawn(process.execPath, [script, dataDirectory], { stdio: ['pipe', 'pipe', 'inherit'] });
  const connectionString = await firstLine(child);
  return {
    connectionString,
    async close() {
      const ended = once(child, 'exit');
      child.stdin.write('close\n');
      await ended;
    },
    async kill() {
      const ended = once(child, 'exit');
      child.kill('SIGKILL');
      await ended;
    },
  };
}

/** What a process says first; rejects when it ends without a word. */
export async function firstLine(child: ChildProcess): Promise<string> {
  const lines = createInterface({ input: child.stdout! });
  return new Promise((resolve, reject) => {
    lines.once('line', resolve);
    child.once('exit', (code) => reject(new Error(`the process ended with ${code} before it said anything`)));
  });
}

/** The pid in the cluster's `postmaster.pid`; undefined when there is no such file. */
export async function postmasterPid(dataDirectory: string): Promise<number | undefined> {
  const text = await readFile(join(dataDirectory, 'postgres/data/postmaster.pid'), 'utf8').catch(() => undefined);
  return text === undefined ? undefined : Number(text.split('\n')[0]);
}

/** Whether a process runs; the remains of one that nobody has waited for do not count. */
export async function runs(pid: number): Promise<boolean> {
  const stat = await readFile(`/proc/${pid}/stat`, 'utf8').catch(() => undefined);
  if (stat === undefined) return false;
  return !/^[ZX]/.test(stat.slice(stat.lastIndexOf(')') + 2));
}
