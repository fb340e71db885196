import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { pino } from 'pino';
import { afterEach, describe, expect, it } from 'vitest';
import { readExample, toDataUri, toJsonl } from '../../src/demo/example-data.js';
import { JobControl } from '../../src/jobs/job-control.js';
import { JobPlanner } from '../../src/jobs/job-planner.js';
import { JobQueries } from '../../src/jobs/job-queries.js';
import { jobRequestSchema } from '../../src/jobs/job-request.js';
import { JobService } from '../../src/jobs/job-service.js';
import { Mending } from '../../src/jobs/mending.js';
import { ok, until } from '../helpers/api.js';
import { testService } from '../helpers/service.js';

const PROGRAM = fileURLToPath(new URL('../../dist/main.js', import.meta.url));
const cleanups: (() => Promise<unknown>)[] = [];
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

async function start(port: number): Promise<{ child: ChildProcess; folder: string }> {
  const folder = await mkdtemp(join(tmpdir(), 'craft-life-'));
  cleanups.push(() => rm(folder, { recursive: true, force: true }));
  const child = fork(PROGRAM, ['start'], {
    env: {
      ...process.env,
      PORT: String(port),
      CRAFT_DATA_DIR: folder,
      DATABASE_URL: '',
      REDIS_URL: '',
      LOG_LEVEL: 'silent',
    },
    stdio: ['ignore', 'ignore', 'ignore', 'ipc'],
  });
  return { child, folder };
}

/** The process of the embedded Postgres, or null when its server has stopped in order. */
async function postmaster(folder: string): Promise<number | null> {
  const path = join(folder, 'postgres', 'data', 'postmaster.pid');
  return existsSync(path) ? Number((await readFile(path, 'utf8')).split('\n')[0]) : null;
}

describe('the service as a process', () => {
  it('that cannot listen closes what it has opened, Postgres included', async () => {
    const taken = createServer().listen(0, '127.0.0.1');
    await once(taken, 'listening');
    cleanups.push(async () => taken.close());
    const { child, folder } = await start((taken.address() as { port: number }).port);
    const [code] = await once(child, 'exit');
    expect(code).toBe(1);
    expect(existsSync(join(folder, 'postgres', 'data'))).toBe(true);
    expect(await postmaster(folder)).toBeNull();
  });

  it('that is told to stop first answers the requests that it has', async () => {
    const { child, folder } = await start(0);
    const [{ url, apiKey, provider }] = (await once(child, 'message')) as [
      { url: string; apiKey: string; provider: { url: string; key: string } },
    ];
    expect(await postmaster(folder)).not.toBeNull();
    const misbehave = async (init: RequestInit = {}) => {
      const controlKey = { authorization: `Bearer ${provider.key}`, 'content-type': 'application/json' };
      return ok<{ held: number }>(fetch(`${provider.url}/control/misbehave`, { ...init, headers: controlKey }));
    };
    await misbehave({ method: 'POST', body: JSON.stringify({ hold_after: 0 }) });
    const headers = { authorization: `Bearer ${apiKey}`, 'content-type': 'application/json' };
    const listed = (await (await fetch(`${url}/v1/providers`, { headers })).json()) as { data: { id: string }[] };
    const { test } = await readExample('fluent-contrast-subgroups', 'seed-1');
    const answer = fetch(`${url}/v1/providers/${listed.data[0].id}/zero_shot`, {
      method: 'POST',
      headers,
      body: JSON.stringify({ images: [toDataUri(test[0].bytes)], labels: ['flag', 'plant'] }),
    });
    await until(async () => (await misbehave()).held === 1);
    child.kill('SIGTERM');
    const refused = () =>
      fetch(`${url}/healthz`).then(
        () => false,
        () => true,
      );
    await until(refused);
    await misbehave({ method: 'POST', body: '{}' });
    const { status, headers: answered } = await answer;
    expect(status).toBe(200);
    // Else its connection, which clients keep, would hold up the shutdown for more than a minute.
    expect(answered.get('connection')).toBe('close');
    await once(child, 'exit');
    expect(await postmaster(folder)).toBeNull();
  });
});

describe('a queue that is away', () => {
  it('does not turn a created job into an error, and has the job once it is back', async () => {
    const { core, upload } = await testService();
    const example = await readExample('fluent-contrast-subgroups', 'seed-1');
    const some = example.train.filter(({ label }) => example.classes.slice(0, 2).includes(label));
    const { id: file } = (await (await upload(toJsonl(some))).json()) as { id: string };
    const queued: string[] = [];
    let away = true;
    const queue = {
      async add(id: string) {
        if (away) throw new Error('away');
        queued.push(id);
      },
      remove: async () => {},
      has: async (id: string) => queued.includes(id),
      ids: async () => queued,
    };
    const { database, ledger, datasets, providers } = core;
    const queries = new JobQueries(database, ledger);
    const planner = new JobPlanner(database, ledger, datasets, providers);
    const jobs = new JobService(database, ledger, planner, queries, queue, pino({ level: 'silent' }));
    const craft = { strategy: 'paper', budget: { max_prompt_evaluations: 41 } };
    const request = jobRequestSchema.parse({
      model: 'emoji-clip',
      training_file: file,
      method: { type: 'craft', craft },
    });
    const { job } = await jobs.create(request);
    expect(job.status).toBe('queued');
    const log = pino({ level: 'silent' });
    const mending = new Mending({ ...core, queue, intervalSeconds: 1, log });
    await expect(mending.requeueOrphans()).rejects.toThrow('away');
    away = false;
    expect(await mending.requeueOrphans()).toBe(1);
    expect(queued).toEqual([job.id]);
    expect(await mending.requeueOrphans()).toBe(0);
    expect(await mending.removeStrayEntries()).toBe(0);
    await new JobControl(database, ledger, planner, queries, queue, log).cancel(job.id);
  });
});
