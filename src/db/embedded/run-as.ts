import { spawnSync } from 'node:child_process';
import { readFile, stat } from 'node:fs/promises';
import { dirname } from 'node:path';
import { EmbeddedPostgresError } from './errors.js';

/** How a Postgres program is started: the words before its own, and the user for `spawn`. */
export interface RunAs {
  prefix: string[];
  ids: { uid?: number; gid?: number };
}

interface User {
  uid: number;
  gid: number;
}

const READ_AND_SEARCH = 0o5;

/**
 * Postgres refuses to run as root, so root runs it as another user: the one who owns the cluster already, else
 * `postgres`, else `nobody`. Where that user may not enter the folders on the way (a home or temporary folder that only
 * root may enter), Postgres keeps, of all of root's rights, the one to pass file permissions.
 * @param needed the files and folders that Postgres must be able to read.
 * @param owner the user who owns the cluster, when there is one.
 */
export async function chooseRunAs(needed: string[], owner: User | undefined): Promise<RunAs> {
  if (process.getuid?.() !== 0) return { prefix: [], ids: {} };
  const user = owner ?? (await findUser());
  const open = await Promise.all(needed.map((path) => mayReach(path, user)));
  if (open.every(Boolean)) return { prefix: [], ids: user };
  const prefix = [
    'setpriv',
    // Without it access(2), by which Postgres checks its own programs, would leave the right out of account.
    '--securebits=+no_setuid_fixup',
    `--reuid=${user.uid}`,
    `--regid=${user.gid}`,
    '--clear-groups',
    '--inh-caps=+dac_override',
    '--ambient-caps=+dac_override',
    '--',
  ];
  const trial = spawnSync(prefix[0], [...prefix.slice(1), 'true'], { encoding: 'utf8' });
  if (trial.status !== 0) {
    const closed = needed[open.indexOf(false)];
    throw new EmbeddedPostgresError(
      `it must not run as root, and the user it runs as instead (uid ${user.uid}) may not enter every folder on the ` +
        `way to ${closed}; carrying root's right along failed too (${trial.error?.message ?? trial.stderr.trim()}). Run ` +
        'craft-server as an ordinary user, or put it and CRAFT_DATA_DIR where every user may enter.',
    );
  }
  return { prefix, ids: {} };
}

/** The user who has to own the cluster's files; undefined when that is simply the one who runs this process. */
export async function clusterOwner(existing: User | undefined): Promise<User | undefined> {
  return process.getuid?.() === 0 ? (existing ?? (await findUser())) : undefined;
}

async function findUser(): Promise<User> {
  const lines = (await readFile('/etc/passwd', 'utf8').catch(() => '')).split('\n').map((line) => line.split(':'));
  for (const name of ['postgres', 'nobody']) {
    const entry = lines.find(([candidate]) => candidate === name);
    if (entry !== undefined && entry[2] !== '0') return { uid: Number(entry[2]), gid: Number(entry[3]) };
  }
  throw new EmbeddedPostgresError(
    'it must not run as root, and there is neither a user `postgres` nor `nobody` to run it as. Run craft-server as an ' +
      'ordinary user, or add the user: useradd --system postgres.',
  );
}

async function mayReach(path: string, user: User): Promise<boolean> {
  if (((await rightsOn(path, user)) & READ_AND_SEARCH) !== READ_AND_SEARCH) return false;
  for (let folder = dirname(path); ; folder = dirname(folder)) {
    if (((await rightsOn(folder, user)) & 1) === 0) return false;
    if (folder === dirname(folder)) return true;
  }
}

async function rightsOn(path: string, user: User): Promise<number> {
  const { mode, uid, gid } = await stat(path);
  if (uid === user.uid) return (mode >> 6) & 7;
  return gid === user.gid ? (mode >> 3) & 7 : mode & 7;
}
