import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { type Binaries, createCluster, findBinaries, runAsFor, spawnServer } from '../src/db/embedded/cluster.js';
import {
  adminClient,
  disarmPidFile,
  type Postmaster,
  SUPERUSER,
  waitUntilReady,
} from '../src/db/embedded/postmaster.js';
import { identify } from '../src/db/embedded/process-identity.js';
import type { RunAs } from '../src/db/embedded/run-as.js';
import { until } from './patience.js';
import { runningProcesses, signal } from './process-table.js';

const PASSWORD = 'chaos';
const DATABASE = 'craft';
const START_TIMEOUT_MS = 60_000;

/** A Postgres server that can be killed and started again on the same files and port. */
export class PostgresServer {
  private server: Postmaster | undefined;

  private constructor(
    private readonly folder: string,
    readonly port: number,
    private readonly binaries: Binaries,
    private readonly runAs: RunAs,
  ) {}

  static async create(folder: string, port: number): Promise<PostgresServer> {
    await mkdir(folder, { recursive: true });
    const binaries = await findBinaries();
    const runAs = await runAsFor(folder, binaries);
    const postgres = new PostgresServer(folder, port, binaries, runAs);
    await createCluster(folder, postgres.cluster, PASSWORD, binaries, runAs);
    await postgres.start();
    const client = adminClient(port, PASSWORD);
    await client.connect();
    await client.query(`CREATE DATABASE ${DATABASE}`);
    await client.end();
    return postgres;
  }

  /** @param port of the server or of a proxy before it */
  connectionString(port: number): string {
    return `postgresql://${SUPERUSER}:${PASSWORD}@127.0.0.1:${port}/${DATABASE}`;
  }

  /** Starts it and waits until it has recovered. */
  async start(): Promise<void> {
    await disarmPidFile(this.cluster);
    const log = join(this.folder, '..', 'postgres.log');
    const pid = await spawnServer(this.cluster, this.port, log, this.binaries, this.runAs);
    this.server = { process: (await identify(pid)) ?? { pid, started: 'ended' }, port: this.port };
    if (!(await waitUntilReady(this.server, PASSWORD, START_TIMEOUT_MS))) {
      throw new Error(`Postgres does not start. See ${log}.`);
    }
  }

  /** Kills the postmaster and waits until its server processes have noticed. */
  async kill(): Promise<void> {
    if (this.server === undefined) return;
    const { pid } = this.server.process;
    this.server = undefined;
    const family = (await runningProcesses()).filter((row) => row.pid === pid || row.parent === pid);
    signal(pid, 'SIGKILL');
    const members = new Set(family.map((row) => row.pid));
    await until('the end of the server processes of Postgres', async () => {
      const running = await runningProcesses();
      return !running.some((row) => members.has(row.pid) || row.parent === pid);
    });
  }

  /** For the end, when nothing may be awaited. */
  abandon(): void {
    if (this.server !== undefined) signal(this.server.process.pid, 'SIGKILL');
  }

  private get cluster(): string {
    return join(this.folder, 'data');
  }
}
