import { randomBytes } from 'node:crypto';
import { link, mkdir, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { isAlive, ownIdentity, type ProcessIdentity } from './process-identity.js';

const POLL_MS = 30;

interface Ticket extends ProcessIdentity {
  released?: boolean;
}

/**
 * Runs a task while no other process runs one for the same folder. The lock of a process that died is taken over.
 *
 * Whoever wants the lock creates the next number after the highest ticket, once that ticket's owner has released it or
 * is dead. Creating is atomic (`link`), and a ticket counts only while it is the highest, so two can never both win;
 * deleting a dead owner's lock file, the usual way, would let a slow waiter delete the winner's.
 * @throws Error when the lock is not free within `timeoutMs`.
 */
export async function withFileLock<T>(folder: string, timeoutMs: number, task: () => Promise<T>): Promise<T> {
  await mkdir(folder, { recursive: true, mode: 0o700 });
  const number = await acquire(folder, timeoutMs);
  try {
    return await task();
  } finally {
    await writeTicket(join(folder, String(number)), { ...(await ownIdentity()), released: true });
  }
}

async function acquire(folder: string, timeoutMs: number): Promise<number> {
  const deadline = Date.now() + timeoutMs;
  const me = await ownIdentity();
  const draft = join(folder, `draft-${process.pid}-${randomBytes(6).toString('hex')}`);
  await writeTicket(draft, me);
  try {
    for (;;) {
      const highest = Math.max(0, ...(await ticketsIn(folder)));
      const owner = await readTicket(join(folder, String(highest)));
      const free = owner === undefined || owner.released === true || !(await isAlive(owner));
      if (free && (await claim(folder, draft, highest + 1))) return highest + 1;
      if (!free && Date.now() > deadline) {
        throw new Error(
          `Process ${owner.pid} has held the lock ${folder} for too long. Is it stuck? End it, then retry.`,
        );
      }
      await sleep(POLL_MS);
    }
  } finally {
    await rm(draft, { force: true });
  }
}

async function claim(folder: string, draft: string, number: number): Promise<boolean> {
  const ticket = join(folder, String(number));
  try {
    await link(draft, ticket);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EEXIST') return false;
    throw error;
  }
  const tickets = await ticketsIn(folder);
  if (Math.max(...tickets) > number) {
    await rm(ticket, { force: true });
    return false;
  }
  await Promise.all(tickets.filter((n) => n < number).map((n) => rm(join(folder, String(n)), { force: true })));
  return true;
}

async function ticketsIn(folder: string): Promise<number[]> {
  return (await readdir(folder)).filter((name) => /^\d+$/.test(name)).map(Number);
}

async function writeTicket(path: string, ticket: Ticket): Promise<void> {
  await writeFile(path, JSON.stringify(ticket), { mode: 0o600 });
}

async function readTicket(path: string): Promise<Ticket | undefined> {
  try {
    return JSON.parse(await readFile(path, 'utf8')) as Ticket;
  } catch {
    return undefined;
  }
}
