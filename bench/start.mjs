// From `npm start` in a checkout that is built, with data from an earlier start, to /readyz; and what of that the embedded
// Postgres takes by itself.
import { execFileSync, spawn } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { pino } from 'pino';
import { openEmbeddedPostgres } from '../dist/db/embedded-postgres.js';
import { median, report } from './report.mjs';

const { values } = parseArgs({ options: { repeats: { type: 'string', default: '5' }, json: { type: 'string' } } });
const CHECKOUT = fileURLToPath(new URL('..', import.meta.url));
const TARGET_MS = 3000;
const log = pino({ level: 'silent' });

async function freePort() {
  const server = createServer();
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address();
  await new Promise((resolve) => server.close(resolve));
  return port;
}

const isReady = (url) =>
  fetch(`${url}/readyz`).then(
    ({ ok }) => ok,
    () => false,
  );

/** The process that serves, among the descendants of npm's. */
function serviceUnder(npm) {
  const processes = execFileSync('ps', ['-eo', 'pid=,ppid=,args='], { encoding: 'utf8' })
    .split('\n')
    .map((line) => /^\s*(\d+)\s+(\d+)\s+(.*)$/.exec(line))
    .filter((match) => match !== null)
    .map(([, pid, parent, command]) => ({ pid: Number(pid), parent: Number(parent), command }));
  const isUnder = (pid) => {
    const parent = processes.find((candidate) => candidate.pid === pid)?.parent;
    return parent === npm || (parent !== undefined && isUnder(parent));
  };
  return processes.find(({ pid, command }) => /^\S*node dist\/main\.js start/.test(command) && isUnder(pid)).pid;
}

async function timeStart(dataDirectory) {
  const port = await freePort();
  const startedAt = performance.now();
  const child = spawn('npm', ['start'], {
    cwd: CHECKOUT,
    env: {
      ...process.env,
      PORT: String(port),
      CRAFT_DATA_DIR: dataDirectory,
      DATABASE_URL: '',
      REDIS_URL: '',
      LOG_LEVEL: 'warn',
    },
    stdio: ['ignore', 'ignore', 'inherit'],
  });
  const exited = new Promise((resolve) => child.once('exit', resolve));
  const ended = exited.then((code) => {
    throw new Error(`npm start ended with status ${code}`);
  });
  ended.catch(() => {});
  const ready = async () => {
    while (!(await isReady(`http://127.0.0.1:${port}`))) await sleep(10);
    return performance.now() - startedAt;
  };
  const took = await Promise.race([ready(), ended]);
  // It is ready before its worker has begun, and is to be stopped as a whole.
  await sleep(1000);
  // Only the service itself: npm passes no signal on, and the service's own children are its to close.
  process.kill(serviceUnder(child.pid), 'SIGTERM');
  await exited;
  return took;
}

async function timePostgres(dataDirectory) {
  const startedAt = performance.now();
  const server = await openEmbeddedPostgres(dataDirectory, log);
  const took = performance.now() - startedAt;
  await server.close();
  return took;
}

const folder = await mkdtemp(join(tmpdir(), 'craft-bench-start-'));
try {
  const first = await timeStart(folder);
  console.log(`the first start, which creates the database: ${first.toFixed(0)} ms`);
  const whole = [];
  const postgres = [];
  for (let repeat = 0; repeat < Number(values.repeats); repeat++) {
    postgres.push(await timePostgres(folder));
    whole.push(await timeStart(folder));
  }
  const beyond = median(whole) - median(postgres);
  report(
    'npm start, from a warm checkout to /readyz',
    [
      {
        name: 'beyond the embedded Postgres',
        value: beyond,
        unit: 'ms',
        target: `≤ ${TARGET_MS}`,
        met: beyond <= TARGET_MS,
      },
      { name: 'all of it', value: median(whole), unit: 'ms' },
      { name: 'the embedded Postgres alone', value: median(postgres), unit: 'ms' },
    ],
    values.json,
  );
} finally {
  await rm(folder, { recursive: true, force: true });
}
