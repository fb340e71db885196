import { randomBytes } from 'node:crypto';
import { mkdir, readFile, realpath, rename, rm, stat, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Logger } from 'pino';
import { type Binaries, createCluster, findBinaries, runAsFor, spawnServer } from './embedded/cluster.js';
import { EmbeddedPostgresError } from './embedded/errors.js';
import { withFileLock } from './embedded/file-lock.js';
import { countLeases, takeLease } from './embedded/leases.js';
import {
  adminClient,
  disarmPidFile,
  findPostmaster,
  type Postmaster,
  SUPERUSER,
  stopPostmaster,
  waitUntilReady,
} from './embedded/postmaster.js';
import { identify } from './embedded/process-identity.js';
import type { RunAs } from './embedded/run-as.js';

export { EmbeddedPostgresError } from './embedded/errors.js';

export interface EmbeddedPostgres {
  connectionString: string;
  /** Ends this use of the server. The last process that uses it stops it. */
  close(): Promise<void>;
}

interface Place {
  /** Holds everything below. */
  folder: string;
  /** Postgres's own files. */
  cluster: string;
  lock: string;
  leases: string;
  password: string;
  state: string;
  log: string;
}

const DATABASE = 'craft';
const LOCK_TIMEOUT_MS = 120_000;
/** Recovery after a crash may have much to replay. */
const START_TIMEOUT_MS = 60_000;
const STOP_TIMEOUT_MS = 30_000;
const START_ATTEMPTS = 10;
const RESTART_DELAY_MS = 50;
const WATCH_MS = 1000;
const LOG_LIMIT_BYTES = 10 * 1024 * 1024;

/**
 * Opens the Postgres that lives in `<dataDirectory>/postgres`, creating and starting it where necessary. Processes with
 * the same data directory share one server, however each of them ended before.
 * @throws EmbeddedPostgresError when it cannot run here.
 */
export async function openEmbeddedPostgres(dataDirectory: string, log: Logger): Promise<EmbeddedPostgres> {
  try {
    return await open(dataDirectory, log);
  } catch (error) {
    const { code, path } = error as NodeJS.ErrnoException;
    if (code !== 'EACCES' && code !== 'EPERM' && code !== 'EROFS') throw error;
    throw new EmbeddedPostgresError(
      `${path} is not open to the user who runs craft-server. Use the user who created ${dataDirectory}, or another ` +
        'CRAFT_DATA_DIR.',
      error,
    );
  }
}

async function open(dataDirectory: string, log: Logger): Promise<EmbeddedPostgres> {
  const place = await preparePlace(dataDirectory);
  const opened = await withFileLock(place.lock, LOCK_TIMEOUT_MS, async () => {
    const password = await readPassword(place);
    const server = await ensureRunning(place, password, log);
    await ensureDatabase(server, password);
    return { lease: await takeLease(place.leases), password, port: server.port };
  });
  const watch = watchOver(place, opened, log);
  let closing: Promise<void> | undefined;
  return {
    connectionString: `postgresql://${SUPERUSER}:${opened.password}@127.0.0.1:${opened.port}/${DATABASE}`,
    close() {
      closing ??= watch
        .stop()
        .then(() => withFileLock(place.lock, LOCK_TIMEOUT_MS, () => giveBack(place, opened.lease, log)));
      return closing;
    },
  };
}

/** Starts the server again should it die while this process uses it; connections then come back by themselves. */
function watchOver(place: Place, opened: { password: string; port: number }, log: Logger): { stop(): Promise<void> } {
  let looking: Promise<void> = Promise.resolve();
  const look = async () => {
    if ((await findPostmaster(place.cluster)) !== undefined) return;
    await withFileLock(place.lock, LOCK_TIMEOUT_MS, async () => {
      if ((await findPostmaster(place.cluster)) !== undefined) return;
      log.error('the embedded Postgres has died; starting it again');
      // Everybody knows it by its port: while another program has that, it is tried again.
      await ensureRunning(place, opened.password, log, opened.port);
    });
  };
  const timer = setInterval(() => {
    looking = looking
      .then(look)
      .catch((err) => log.error({ err }, 'the embedded Postgres could not be started again yet'));
  }, WATCH_MS);
  timer.unref();
  return {
    async stop() {
      clearInterval(timer);
      await looking;
    },
  };
}

async function preparePlace(dataDirectory: string): Promise<Place> {
  const folder = join(dataDirectory, 'postgres');
  await mkdir(folder, { recursive: true });
  const real = await realpath(folder);
  const place = {
    folder: real,
    cluster: join(real, 'data'),
    lock: join(real, 'lock'),
    leases: join(real, 'leases'),
    password: join(real, 'password'),
    state: join(real, 'state.json'),
    log: join(real, '..', 'postgres.log'),
  };
  return place;
}

async function readPassword(place: Place): Promise<string> {
  const kept = await readFile(place.password, 'utf8').catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return undefined;
    throw error;
  });
  if (kept !== undefined) return kept.trim();
  if ((await stat(place.cluster).catch(() => undefined)) !== undefined) {
    throw new EmbeddedPostgresError(`${place.password} is gone, and with it the key to ${place.cluster}. Restore it.`);
  }
  const password = randomBytes(24).toString('hex');
  await writeFile(`${place.password}.draft`, `${password}\n`, { mode: 0o600 });
  await rename(`${place.password}.draft`, place.password);
  return password;
}

async function ensureRunning(place: Place, password: string, log: Logger, port?: number): Promise<Postmaster> {
  const binaries = await findBinaries();
  const runAs = await runAsFor(place.folder, binaries);
  if (await createCluster(place.folder, place.cluster, password, binaries, runAs)) {
    log.info({ folder: place.folder }, 'created the embedded Postgres');
  }
  for (let attempt = 1; attempt <= START_ATTEMPTS; attempt++) {
    // One that is just shutting down lets nobody in, ends, and is started anew. Starting fails while another program
    // snatches the port, or server processes of a crashed postmaster are still ending.
    const server = (await findPostmaster(place.cluster)) ?? (await start(place, binaries, runAs, port));
    if (await letsIn(server, password, place)) {
      await writeFile(place.state, JSON.stringify({ port: server.port }));
      return server;
    }
    await sleep(attempt * RESTART_DELAY_MS);
  }
  throw new EmbeddedPostgresError(`it does not start. Its log ${place.log} ends with:\n${await tail(place.log)}\n`);
}

async function letsIn(server: Postmaster, password: string, place: Place): Promise<boolean> {
  try {
    return await waitUntilReady(server, password, START_TIMEOUT_MS);
  } catch (cause) {
    throw new EmbeddedPostgresError(
      `its server (process ${server.process.pid}) runs but does not let us in: ${(cause as Error).message}. See ` +
        `${place.log}.`,
      cause,
    );
  }
}

async function start(place: Place, binaries: Binaries, runAs: RunAs, required?: number): Promise<Postmaster> {
  await disarmPidFile(place.cluster);
  await rotateLog(place.log);
  const port = required === undefined ? await choosePort(place) : await freePort(required);
  if (port === undefined) throw new EmbeddedPostgresError(`its port ${required} is taken by another program.`);
  const pid = await spawnServer(place.cluster, port, place.log, binaries, runAs);
  return { process: (await identify(pid)) ?? { pid, started: 'ended' }, port };
}

async function ensureDatabase(server: Postmaster, password: string): Promise<void> {
  const client = adminClient(server.port, password);
  await client.connect();
  try {
    const { rowCount } = await client.query('SELECT 1 FROM pg_database WHERE datname = $1', [DATABASE]);
    if (rowCount === 0) await client.query(`CREATE DATABASE ${DATABASE}`);
  } finally {
    await client.end();
  }
}

async function giveBack(place: Place, lease: string, log: Logger): Promise<void> {
  await rm(lease, { force: true });
  if ((await countLeases(place.leases)) > 0) return;
  const server = await findPostmaster(place.cluster);
  if (server !== undefined && !(await stopPostmaster(server, STOP_TIMEOUT_MS))) {
    log.warn({ pid: server.process.pid }, 'the embedded Postgres is still shutting down');
  }
}

/** The port of the last time if it is free, so that a connection string noted down stays right; else any free one. */
async function choosePort(place: Place): Promise<number> {
  const kept = await readFile(place.state, 'utf8').then(
    (text) => (JSON.parse(text) as { port: number }).port,
    () => 0,
  );
  return (await freePort(kept)) ?? (await freePort(0))!;
}

function freePort(port: number): Promise<number | undefined> {
  return new Promise((resolve) => {
    const probe = createServer();
    probe.once('error', () => resolve(undefined));
    probe.listen(port, '127.0.0.1', () => {
      const found = (probe.address() as { port: number }).port;
      probe.close(() => resolve(found));
    });
  });
}

async function rotateLog(path: string): Promise<void> {
  const size = (await stat(path).catch(() => undefined))?.size ?? 0;
  if (size > LOG_LIMIT_BYTES) await rename(path, `${path}.1`);
}

async function tail(path: string): Promise<string> {
  const text = await readFile(path, 'utf8').catch(() => '');
  return text.trim().split('\n').slice(-8).join('\n');
}
