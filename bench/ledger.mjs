// What it costs to account for calls: reserving and settling the calls of running jobs on job, provider, provider's day
// and project, beside one bare UPDATE round trip on the same Postgres. Run `npm run build` first, then
//   node bench/ledger.mjs [--seconds 3] [--jobs 1,16] [--answers 0,65536] [--callers 1,4,16,256] [--processes 1,4]
// Callers are counted in each process: 4 in each of 4 processes are 16 in all.
import { fork } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { availableParallelism, tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import pg from 'pg';
import pino from 'pino';
import { createPrismaClient } from '../dist/db/client.js';
import { openDatabase } from '../dist/db/open-database.js';
import { LedgerConnection } from '../dist/ledger/connection.js';
import { Ledger } from '../dist/ledger/ledger.js';

const PROVIDER = 'prov-bench';
const WARM_UP_MS = 1000;

if (process.send) {
  await runCallers();
} else {
  await compare();
}

async function compare() {
  const { values } = parseArgs({
    options: {
      seconds: { type: 'string', default: '3' },
      jobs: { type: 'string', default: '1,16' },
      answers: { type: 'string', default: '0,65536' },
      callers: { type: 'string', default: '1,4,16,256' },
      processes: { type: 'string', default: '1,4' },
    },
  });
  const numbers = (text) => text.split(',').map(Number);
  const measureMs = Number(values.seconds) * 1000;
  const folder = await mkdtemp(join(tmpdir(), 'craft-bench-'));
  const opened = await openDatabase({ dataDirectory: folder, log: pino({ level: 'silent' }) });
  try {
    const { connectionString } = opened;
    const jobIds = await openAccounts(connectionString, Math.max(...numbers(values.jobs)));
    const bareUpdates = await openBareUpdates(connectionString);
    console.log(`${availableParallelism()} cores`);
    for (const answerBytes of numbers(values.answers)) {
      for (const jobs of numbers(values.jobs)) {
        const rows = [];
        for (const processes of numbers(values.processes)) {
          for (const callers of numbers(values.callers)) {
            const options = {
              connectionString,
              jobIds: jobIds.slice(0, jobs),
              answerBytes,
              callers,
              processes,
              measureMs,
            };
            // Right before, because what else the machine does changes.
            const bare = await bareUpdates.perSecond(measureMs / 2);
            rows.push(toRow(options, await measure(options), bare));
          }
        }
        console.log(
          `\nReserve and settle, ${jobs === 1 ? 'one job' : `${jobs} jobs`}` +
            `${answerBytes === 0 ? '' : `, ${answerBytes} bytes of answer kept with each`}`,
        );
        console.table(rows);
      }
    }
    await bareUpdates.close();
  } finally {
    await opened.close();
    await rm(folder, { recursive: true, force: true });
  }
}

function toRow({ callers, processes }, { calls, seconds, reserveStatements, latencies }, bare) {
  const perSecond = calls / seconds;
  const perCore = perSecond / availableParallelism();
  latencies.sort();
  const quantile = (q) => Number(latencies[Math.floor(latencies.length * q)].toFixed(2));
  return {
    processes,
    'callers in each': callers,
    'in all': callers * processes,
    'calls/s': Math.round(perSecond),
    'calls/s per core': Math.round(perCore),
    'bare UPDATE ms': Number((1000 / bare).toFixed(3)),
    'bare UPDATEs/s': Math.round(bare),
    ratio: Number((perCore / bare).toFixed(2)),
    'calls per statement': Number((latencies.length / reserveStatements).toFixed(1)),
    'reserve p50 ms': quantile(0.5),
    'reserve p99 ms': quantile(0.99),
  };
}

async function openAccounts(connectionString, count) {
  const database = createPrismaClient({ connectionString });
  const ledger = new Ledger(database, connectionString);
  const ids = Array.from({ length: count }, (_, i) => `ftjob-bench-${i}`);
  await database.provider.create({
    data: {
      id: PROVIDER,
      name: 'bench',
      protocol: 'open_inference',
      baseUrl: 'http://127.0.0.1:1',
      remoteModel: 'none',
      settings: {},
      capabilities: {},
      concurrency: 1,
      imagesPerRequest: 1,
      promptsPerRequest: 1,
      timeoutMs: 1000,
      pricePerRequestNanoUsd: 0n,
      pricePerImageQueryNanoUsd: 0n,
    },
  });
  await database.job.createMany({
    data: ids.map((id) => ({
      id,
      status: 'running',
      providerId: PROVIDER,
      trainingFileId: 'file-none',
      seed: 1,
      method: {},
      plan: {},
      plannedGenerations: 1,
      epoch: 1,
    })),
  });
  // Limits that are never reached, but looked at.
  const limits = { promptEvaluations: 1e15, imageQueries: 1e15, requests: 1e15, costMicroUsd: 1e15 };
  await database.$transaction(async (tx) => {
    await ledger.openProviderAccounts(tx, PROVIDER, { total: limits, daily: limits });
    for (const id of ids) await ledger.openAccount(tx, { id, kind: 'job', providerId: PROVIDER }, limits);
  });
  await ledger.close();
  await database.$disconnect();
  return ids;
}

/** One UPDATE after the other on one connection, each a transaction of its own. */
async function openBareUpdates(connectionString) {
  const client = new pg.Client({ connectionString });
  await client.connect();
  await client.query('CREATE TABLE bench (id integer PRIMARY KEY, x bigint NOT NULL) WITH (fillfactor = 50)');
  await client.query('INSERT INTO bench VALUES (1, 0)');
  const update = { name: 'bare', text: 'UPDATE bench SET x = x + 1 WHERE id = $1', values: [1] };
  return {
    async perSecond(measureMs) {
      const startedAt = performance.now();
      let updates = 0;
      for (; performance.now() < startedAt + measureMs; updates++) await client.query(update);
      return (updates * 1000) / (performance.now() - startedAt);
    },
    close: () => client.end(),
  };
}

/** So many callers in each of the processes, which start together. */
async function measure({ processes, callers, ...options }) {
  const children = Array.from({ length: processes }, () =>
    fork(fileURLToPath(import.meta.url), { serialization: 'advanced' }),
  );
  const heard = (child) =>
    new Promise((resolve, reject) => {
      child.once('message', resolve);
      child.once('exit', (code) => reject(new Error(`A process of the benchmark ended with ${code}.`)));
    });
  try {
    const ready = children.map(heard);
    for (const [i, child] of children.entries()) {
      child.send({ ...options, from: i * callers, to: (i + 1) * callers, worker: `bench-${i}` });
    }
    await Promise.all(ready);
    const done = children.map(heard);
    for (const child of children) child.send('go');
    const results = await Promise.all(done);
    return {
      seconds: options.measureMs / 1000,
      calls: results.reduce((sum, { calls }) => sum + calls, 0),
      reserveStatements: results.reduce((sum, { reserveStatements }) => sum + reserveStatements, 0),
      latencies: Float64Array.from(results.flatMap(({ latencies }) => latencies)),
    };
  } finally {
    for (const child of children) if (child.connected) child.disconnect();
    await Promise.all(
      children.map((child) => (child.exitCode === null ? new Promise((resolve) => child.once('exit', resolve)) : null)),
    );
  }
}

async function runCallers() {
  const next = () => new Promise((resolve) => process.once('message', resolve));
  const { connectionString, jobIds, from, to, answerBytes, measureMs, worker } = await next();
  const ledger = new Ledger(null, connectionString);
  let reserveStatements = 0;
  const { query } = LedgerConnection.prototype;
  LedgerConnection.prototype.query = function (statement) {
    if (statement.name === 'ledger_reserve') reserveStatements++;
    return query.call(this, statement);
  };

  const answer =
    answerBytes > 0 ? { callHash: new Uint8Array(32), logits: new Uint8Array(answerBytes).fill(7) } : undefined;
  const latencies = [];
  let calls = 0;
  let ended = false;
  const caller = async (index) => {
    for (let chunk = 0; !ended; chunk++) {
      const before = performance.now();
      const reservation = await ledger.reserve({
        accountId: jobIds[index % jobIds.length],
        providerId: PROVIDER,
        purpose: 'candidates',
        amounts: { promptEvaluations: 1, imageQueries: 100, requests: 1, costMicroUsd: 7 },
        guard: { kind: 'running_job', epoch: 1 },
        generation: 1,
        // A training state makes the answers before it superfluous, so that there are never very many.
        chunk: index * 100 + (chunk % 100),
        worker,
      });
      latencies.push(performance.now() - before);
      if (!(await ledger.settle(reservation, { answer }))) throw new Error('A reservation was lost.');
      calls++;
    }
  };

  const go = next();
  process.send('ready');
  await go;
  const running = Promise.all(Array.from({ length: to - from }, (_, i) => caller(from + i)));
  await sleep(WARM_UP_MS);
  latencies.length = 0;
  calls = 0;
  reserveStatements = 0;
  await sleep(measureMs);
  process.send({ calls, reserveStatements, latencies: [...latencies] });
  ended = true;
  await running;
  await ledger.close();
  // The parent has closed the channel, or will: nothing else keeps this process.
}
