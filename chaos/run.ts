import { createWriteStream } from 'node:fs';
import { join } from 'node:path';
import { Books } from './books.js';
import { Cluster, LOCK_SECONDS } from './cluster.js';
import { KINDS, prepareKinds } from './jobs.js';
import { type RoundResult, runRound } from './round.js';
import { RunningJob } from './running-job.js';
import { type QueueKind, scheduleRound } from './schedule.js';
import type { System } from './system.js';

export interface ChaosOptions {
  /** The run ends with the round in which this many were killed. */
  kills: number;
  seed: number;
  queue: QueueKind;
  /** Whether the provider honours idempotency keys. */
  idempotency: boolean;
  /** How many run at once, 1 to KINDS. */
  jobs: number;
  /** The first round, for going straight to one that failed. */
  firstRound: number;
  onRound?: (result: RoundResult) => void;
}

export interface ChaosResult {
  rounds: RoundResult[];
  kills: number;
  breaches: string[];
  /** Processes that ended without having been killed, by name. */
  endedByThemselves: Record<string, number>;
  /** Where the logs are; they are kept when there is a breach. */
  folder: string;
}

const REFERENCE_TIMEOUT_MS = 120_000;

/** Starts the system, trains each kind of job undisturbed, then disturbs it round after round until it has been enough. */
export async function runChaos(options: ChaosOptions): Promise<ChaosResult> {
  const cluster = await Cluster.start(options);
  const file = createWriteStream(join(cluster.folder, 'chaos.log'));
  const log = (line: string) => void file.write(`${new Date().toISOString().slice(11, 23)} ${line}\n`);
  const books = new Books(cluster.databaseUrl);
  const rounds: RoundResult[] = [];
  let passed = false;
  try {
    const kinds = await prepareKinds(cluster, options.seed);
    const system: System = { options, cluster, books, kinds, undisturbed: new Map(), created: 0, log };
    await trainUndisturbed(system);
    for (let round = options.firstRound; countKills(rounds) < options.kills; round++) {
      const lockMs = LOCK_SECONDS * 1000;
      const schedule = scheduleRound(options.seed, round, { ...options, kinds: KINDS, lockMs });
      const result = await runRound(system, round, schedule);
      rounds.push(result);
      options.onRound?.(result);
      if (result.breaches.length > 0) break;
    }
    const breaches = rounds.flatMap((result) => result.breaches);
    passed = breaches.length === 0;
    return {
      rounds,
      kills: countKills(rounds),
      breaches,
      endedByThemselves: Object.fromEntries(cluster.processes.map(({ name, endedByItself }) => [name, endedByItself])),
      folder: cluster.folder,
    };
  } catch (error) {
    throw new Error(`The run broke off; its logs are in ${cluster.folder}.`, { cause: error });
  } finally {
    await books.close();
    file.end();
    await cluster.stop(!passed);
  }
}

export function countKills(rounds: RoundResult[]): number {
  return rounds.reduce((sum, { committed }) => sum + committed.filter(({ kind }) => kind === 'kill').length, 0);
}

async function trainUndisturbed(system: System): Promise<void> {
  const { cluster, books, kinds, undisturbed, log } = system;
  const jobs = await Promise.all(
    kinds.map((kind) => RunningJob.create(cluster.client, kind, `undisturbed-${kind.index}`)),
  );
  system.created += jobs.length;
  await Promise.all(
    jobs.map(async (job) => {
      await job.toItsEnd(books, AbortSignal.timeout(REFERENCE_TIMEOUT_MS), log);
      const digest = await job.adapterDigest();
      if (digest === null) throw new Error(`${job.id}, which nothing disturbed, is ${job.status}.`);
      undisturbed.set(job.kind.index, digest);
    }),
  );
  log(`undisturbed adapters: ${[...undisturbed.values()].map((digest) => digest.slice(0, 12)).join(', ')}`);
}
