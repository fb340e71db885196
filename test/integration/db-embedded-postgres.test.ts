import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { chmod, mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import pino from 'pino';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { chooseRunAs } from '../../src/db/embedded/run-as.js';
import { openEmbeddedPostgres } from '../../src/db/embedded-postgres.js';
import { query } from '../helpers/postgres.js';
import { postmasterPid, runs, startPostgresUser } from '../helpers/postgres-process.js';

const log = pino({ level: 'silent' });
const isRoot = process.getuid?.() === 0;
if (!isRoot) console.warn('The tests of running as root are skipped: this is an ordinary user.');
/** CAP_DAC_OVERRIDE alone, as /proc shows it. */
const DAC_OVERRIDE = 2n;

describe.runIf(process.platform === 'linux')('the embedded Postgres', () => {
  let folder: string;

  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), 'craft-embedded-'));
  });

  afterEach(async () => {
    const pid = await postmasterPid(folder);
    if (pid !== undefined && (await runs(pid))) {
      process.kill(pid, 'SIGQUIT');
      await gone(pid);
    }
    await rm(folder, { recursive: true, force: true });
  });

  it('keeps data and port over a restart, and its password to itself', async () => {
    const first = await openEmbeddedPostgres(folder, log);
    await query(first.connectionString, 'CREATE TABLE kept AS SELECT 42 AS answer');
    const pid = await postmasterPid(folder);
    await first.close();
    expect(await runs(pid!)).toBe(false);

    const second = await openEmbeddedPostgres(folder, log);
    expect(second.connectionString).toBe(first.connectionString);
    expect(await query(second.connectionString, 'TABLE kept')).toEqual([{ answer: 42 }]);
    expect((await stat(join(folder, 'postgres/password'))).mode & 0o777).toBe(0o600);
    const wrong = second.connectionString.replace(/craft:[0-9a-f]+@/, 'craft:wrong@');
    await expect(query(wrong, 'SELECT 1')).rejects.toMatchObject({ code: '28P01' });
    await second.close();
  });

  it('is durable, and says text in UTF-8', async () => {
    const server = await openEmbeddedPostgres(folder, log);
    const settings = await query<{ name: string; setting: string }>(
      server.connectionString,
      `SELECT name, setting FROM pg_settings
       WHERE name IN ('fsync', 'synchronous_commit', 'full_page_writes', 'listen_addresses', 'server_encoding')`,
    );
    expect(Object.fromEntries(settings.map(({ name, setting }) => [name, setting]))).toEqual({
      fsync: 'on',
      full_page_writes: 'on',
      listen_addresses: '127.0.0.1',
      server_encoding: 'UTF8',
      synchronous_commit: 'on',
    });
    await server.close();
  });

  it('recovers after everything was killed, though another process has the old pid', async () => {
    const user = await startPostgresUser(folder);
    await query(user.connectionString, 'CREATE TABLE kept AS SELECT 42 AS answer');
    const pid = (await postmasterPid(folder))!;
    process.kill(pid, 'SIGKILL');
    await user.kill();
    await gone(pid);
    const stranger = await startStranger(folder);
    const pidFile = join(folder, 'postgres/data/postmaster.pid');
    await writeFile(pidFile, (await readFile(pidFile, 'utf8')).replace(String(pid), String(stranger.pid)));

    const server = await openEmbeddedPostgres(folder, log);
    expect(await query(server.connectionString, 'TABLE kept')).toEqual([{ answer: 42 }]);
    await server.close();
    expect(await runs(stranger.pid!)).toBe(true);
    stranger.kill();
  });

  it('adopts a server whose users were killed, and stops it in the end', async () => {
    const user = await startPostgresUser(folder);
    const pid = (await postmasterPid(folder))!;
    await user.kill();
    expect(await runs(pid)).toBe(true);
    // A group of its own, so that Ctrl-C in a terminal does not reach it.
    expect(await processGroup(pid)).toBe(pid);

    const server = await openEmbeddedPostgres(folder, log);
    expect(await postmasterPid(folder)).toBe(pid);
    expect(server.connectionString).toBe(user.connectionString);
    await server.close();
    expect(await runs(pid)).toBe(false);
  });

  it('is started again on its port when it dies while it is used', async () => {
    const server = await openEmbeddedPostgres(folder, log);
    await query(server.connectionString, 'CREATE TABLE kept AS SELECT 42 AS answer');
    const pid = (await postmasterPid(folder))!;
    process.kill(pid, 'SIGKILL');
    await gone(pid);
    await vi.waitFor(async () => expect(await query(server.connectionString, 'TABLE kept')).toEqual([{ answer: 42 }]), {
      timeout: 30_000,
      interval: 100,
    });
    expect(await postmasterPid(folder)).not.toBe(pid);
    await server.close();
    expect(await postmasterPid(folder)).toBeUndefined();
  });

  it('is started once by processes that come at the same time, and stopped by the last one', async () => {
    const users = await Promise.all(Array.from({ length: 4 }, () => startPostgresUser(folder)));
    expect(new Set(users.map((user) => user.connectionString)).size).toBe(1);
    const pid = (await postmasterPid(folder))!;
    const [last, killed, ...others] = users;
    await killed.kill();
    await Promise.all(others.map((user) => user.close()));
    expect(await query(last.connectionString, 'SELECT 1 AS one')).toEqual([{ one: 1 }]);
    await last.close();
    expect(await runs(pid)).toBe(false);
  });

  it('goes on when it is opened while it stops', async () => {
    for (let round = 0; round < 3; round++) {
      const first = await openEmbeddedPostgres(folder, log);
      const closing = first.close();
      const second = await openEmbeddedPostgres(folder, log);
      await closing;
      expect(await query(second.connectionString, 'SELECT 1 AS one')).toEqual([{ one: 1 }]);
      await second.close();
    }
  });

  it('takes another port when its own is taken', async () => {
    const first = await openEmbeddedPostgres(folder, log);
    await first.close();
    const port = Number(new URL(first.connectionString).port);
    const squatter = createServer().listen(port, '127.0.0.1');
    await once(squatter, 'listening');
    const second = await openEmbeddedPostgres(folder, log);
    expect(new URL(second.connectionString).port).not.toBe(String(port));
    await second.close();
    squatter.close();
  });

  it('refuses to go on without its password', async () => {
    await (await openEmbeddedPostgres(folder, log)).close();
    await rm(join(folder, 'postgres/password'));
    await expect(openEmbeddedPostgres(folder, log)).rejects.toThrow(/password is gone.*Restore it.*DATABASE_URL/s);
  });

  it.runIf(isRoot)('gives the other user access(2) to programs in folders that only root may enter', async () => {
    const program = join(folder, 'program');
    await writeFile(program, '', { mode: 0o700 });
    const { prefix } = await chooseRunAs([folder], undefined);
    const script = 'fs.accessSync(process.argv[1], fs.constants.R_OK | fs.constants.X_OK)';
    const [setpriv, ...words] = [...prefix, process.execPath, '-e', script, program];
    expect(spawnSync(setpriv, words, { encoding: 'utf8' })).toMatchObject({ status: 0, stderr: '' });
  });

  it.runIf(isRoot)('runs for root as another user, with root’s right only where folders are closed', async () => {
    const rightsOf = async (mode: number) => {
      await chmod(folder, mode);
      const server = await openEmbeddedPostgres(folder, log);
      const status = await readFile(`/proc/${await postmasterPid(folder)}/status`, 'utf8');
      await server.close();
      return { uid: /^Uid:\s+(\d+)/m.exec(status)![1], rights: BigInt(`0x${/^CapEff:\s+(\w+)/m.exec(status)![1]}`) };
    };
    const closed = await rightsOf(0o700);
    expect(closed.uid).not.toBe('0');
    expect(closed.rights).toBe(DAC_OVERRIDE);
    const open = await rightsOf(0o755);
    expect(open.uid).toBe(closed.uid);
    // With the project itself in a closed folder the right is needed here, too.
    expect([0n, DAC_OVERRIDE]).toContain(open.rights);
  });
});

async function processGroup(pid: number): Promise<number> {
  const text = await readFile(`/proc/${pid}/stat`, 'utf8');
  return Number(text.slice(text.lastIndexOf(')') + 2).split(' ')[2]);
}

async function gone(pid: number): Promise<void> {
  await vi.waitFor(async () => expect(await runs(pid)).toBe(false), { timeout: 30_000, interval: 10 });
}

/** A process that has nothing to do with Postgres but belongs to the same user, so that Postgres takes it for its own. */
async function startStranger(folder: string): Promise<ChildProcess> {
  const { uid, gid } = await stat(join(folder, 'postgres/data'));
  const child = spawn('sleep', ['600'], { ...(isRoot ? { uid, gid } : {}), cwd: '/', stdio: 'ignore' });
  await once(child, 'spawn');
  return child;
}
