import { randomBytes } from 'node:crypto';
import { mkdir, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { isAlive, ownIdentity, type ProcessIdentity } from './process-identity.js';

/** Says in a folder that this process uses what the folder stands for. Call under the lock. */
export async function takeLease(folder: string): Promise<string> {
  await mkdir(folder, { recursive: true, mode: 0o700 });
  const path = join(folder, `${process.pid}-${randomBytes(6).toString('hex')}.json`);
  await writeFile(path, JSON.stringify(await ownIdentity()), { mode: 0o600 });
  return path;
}

/** How many leases belong to processes that live; those of dead ones are removed. Call under the lock. */
export async function countLeases(folder: string): Promise<number> {
  let live = 0;
  for (const name of await readdir(folder)) {
    const path = join(folder, name);
    if (await isHeld(path)) live++;
    else await rm(path, { force: true });
  }
  return live;
}

async function isHeld(path: string): Promise<boolean> {
  try {
    return await isAlive(JSON.parse(await readFile(path, 'utf8')) as ProcessIdentity);
  } catch {
    return false;
  }
}
