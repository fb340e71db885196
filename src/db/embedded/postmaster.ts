import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import pg from 'pg';
import { commandLine, identify, isAlive, type ProcessIdentity } from './process-identity.js';

/** A running Postgres server. */
export interface Postmaster {
  process: ProcessIdentity;
  port: number;
}

export const SUPERUSER = 'craft';
const POLL_MS = 15;
const WRONG_PASSWORD = '28P01';
const PASSWORD_GRACE_MS = 1_000;
/** Higher than any pid that a system gives out. */
const NO_SUCH_PID = 2_147_483_646;

/** The server that `postmaster.pid` speaks of, if it runs and is the one of this cluster. */
export async function findPostmaster(cluster: string): Promise<Postmaster | undefined> {
  const lines = await readPidFile(cluster);
  const pid = Number(lines?.[0]);
  if (!Number.isInteger(pid) || pid <= 0) return undefined;
  const process = await identify(pid);
  if (process === undefined || !(await commandLine(pid)).includes(cluster)) return undefined;
  return { process, port: Number(lines?.[3]) };
}

/**
 * After a crash the pid in `postmaster.pid` may belong to another program by now, and Postgres would refuse to start.
 * The pid is replaced instead of the file deleted: Postgres finds the old shared memory by the file, and so notices
 * server processes that outlived the crash. Call only when `findPostmaster` finds nothing.
 */
export async function disarmPidFile(cluster: string): Promise<void> {
  const lines = await readPidFile(cluster);
  if (lines === undefined) return;
  await writeFile(join(cluster, 'postmaster.pid'), [NO_SUCH_PID, ...lines.slice(1)].join('\n'));
}

async function readPidFile(cluster: string): Promise<string[] | undefined> {
  const text = await readFile(join(cluster, 'postmaster.pid'), 'utf8').catch(() => '');
  return text.trim() === '' ? undefined : text.split('\n');
}

/**
 * Waits until the server lets us in.
 * @returns false when it ended instead.
 */
export async function waitUntilReady(server: Postmaster, password: string, timeoutMs: number): Promise<boolean> {
  let deadline = Date.now() + timeoutMs;
  for (;;) {
    const refusal = await tryConnect(server.port, password);
    if (refusal === undefined) return true;
    // Waiting does not make a wrong password right; but it may be another server that has snatched the port.
    if (refusal.code === WRONG_PASSWORD) deadline = Math.min(deadline, Date.now() + PASSWORD_GRACE_MS);
    if (!(await isAlive(server.process))) return false;
    if (Date.now() > deadline) throw refusal;
    await sleep(POLL_MS);
  }
}

/** Stops the server after its clients were cut off, with a checkpoint, and waits for its end. */
export async function stopPostmaster(server: Postmaster, timeoutMs: number): Promise<boolean> {
  const deadline = Date.now() + timeoutMs;
  if (await isAlive(server.process)) signal(server.process.pid, 'SIGINT');
  while (await isAlive(server.process)) {
    if (Date.now() > deadline) return false;
    await sleep(POLL_MS);
  }
  return true;
}

function signal(pid: number, name: NodeJS.Signals): void {
  try {
    process.kill(pid, name);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error;
  }
}

async function tryConnect(port: number, password: string): Promise<(Error & { code?: string }) | undefined> {
  const client = adminClient(port, password);
  try {
    await client.connect();
    return undefined;
  } catch (error) {
    return error as Error;
  } finally {
    await client.end().catch(() => {});
  }
}

/** A connection to the maintenance database. */
export function adminClient(port: number, password: string): pg.Client {
  const client = new pg.Client({
    host: '127.0.0.1',
    port,
    user: SUPERUSER,
    password,
    database: 'postgres',
    connectionTimeoutMillis: 5_000,
  });
  client.on('error', () => {});
  return client;
}
