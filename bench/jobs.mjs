// Many jobs on one worker, which mostly wait: the time of one job, and of 64 that run side by side, at a provider that answers
// after 200 ms; how late the event loop of the process that runs them was, and what memory each further job took.
//   npm run bench:jobs [-- --jobs 64] [--latency 200] [--generations 10] [--repeats 1] [--classes 4] [--shots 4]
//     [--hyperparameters '{"population_size": 8, "intrinsic_dimension": 32}'] [--in-flight 1] [--prompts-per-request 1]
//     [--shared] [--compute auto] [--json FILE]
// Each job has an account of its own at the provider, which takes one request of one prompt at a time; with --shared all
// jobs have one account, with --in-flight requests at a time for each job. API, worker, provider and Postgres share this
// machine's cores, so a job is small: what it costs beside its waits has to fit 64 times into the waits of one.
import { execFileSync } from 'node:child_process';
import { availableParallelism } from 'node:os';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { readExample, toJsonl } from '../dist/demo/example-data.js';
import { median, report } from './report.mjs';
import { startService } from './service.mjs';
import { startWaitingProvider } from './waiting-provider.mjs';

const { values } = parseArgs({
  options: {
    jobs: { type: 'string', default: '64' },
    latency: { type: 'string', default: '200' },
    generations: { type: 'string', default: '10' },
    repeats: { type: 'string', default: '1' },
    classes: { type: 'string', default: '4' },
    shots: { type: 'string', default: '4' },
    hyperparameters: { type: 'string', default: '{"population_size": 8, "intrinsic_dimension": 32}' },
    'in-flight': { type: 'string', default: '1' },
    'prompts-per-request': { type: 'string', default: '1' },
    shared: { type: 'boolean', default: false },
    compute: { type: 'string', default: 'auto' },
    json: { type: 'string' },
  },
});
const jobCount = Number(values.jobs);
const generations = Number(values.generations);
const hyperparameters = JSON.parse(values.hyperparameters);
const JOBS = '/v1/fine_tuning/jobs';
const SAMPLE_MS = 250;

const loads = [];
let stopping = false;
const provider = await startWaitingProvider(Number(values.latency));
const service = await startService(
  {
    CRAFT_EMBEDDED_PROVIDER: 'false',
    CRAFT_ALLOWED_NETWORKS: 'loopback',
    CRAFT_WORKER_CONCURRENCY: values.jobs,
    CRAFT_COMPUTE: values.compute,
    LOG_LEVEL: 'info',
  },
  (line) => {
    const entry = line.startsWith('{') ? JSON.parse(line) : { level: 'error', line };
    if (entry.eventLoopDelayMs !== undefined) loads.push(entry);
    else if (!stopping && ['warn', 'error', 'fatal'].includes(entry.level)) console.error(line);
  },
);
const { client } = service;
/** Of the provider: names of its records. */
const accounts = Array.from({ length: values.shared ? 1 : jobCount }, (_, index) => `waiting-${index}`);

/** MiB of the worker (with the API) and of the process that runs its jobs. */
function memory() {
  const rows = execFileSync('ps', ['-A', '-ww', '-o', 'pid=,ppid=,rss=,args='], { encoding: 'utf8' })
    .trim()
    .split('\n')
    .map((row) => /^\s*(\d+)\s+(\d+)\s+(\d+)\s+(.*)$/.exec(row))
    .map(([, pid, parent, kib, command]) => ({ pid: Number(pid), parent: Number(parent), kib: Number(kib), command }));
  return rows
    .filter(({ pid, parent, command }) => {
      return pid === service.pid || (parent === service.pid && command.endsWith(' train-jobs'));
    })
    .reduce((sum, { kib }) => sum + kib / 1024, 0);
}

/** So many jobs at once, from the first POST until the last one has succeeded. */
async function run(count, file) {
  loads.length = 0;
  const startedAt = performance.now();
  const evaluations = (hyperparameters.population_size + 1) * generations;
  const created = await Promise.all(
    Array.from({ length: count }, (_, index) =>
      client.post(JOBS, {
        model: accounts[index % accounts.length],
        training_file: file,
        seed: index + 1,
        method: { type: 'craft', craft: { hyperparameters, budget: { max_prompt_evaluations: evaluations } } },
      }),
    ),
  );
  const ids = new Set(created.map(({ id }) => id));
  let most = 0;
  for (;;) {
    const page = await client.get(`${JOBS}?limit=${count}`);
    const jobs = page.data.filter(({ id }) => ids.has(id));
    const open = jobs.filter(({ status }) => ['queued', 'running'].includes(status)).length;
    if (open === 0) {
      const seconds = (performance.now() - startedAt) / 1000;
      for (const { id, status, progress } of jobs) {
        if (status !== 'succeeded' || progress.generation !== generations) {
          throw new Error(`${id} ended ${status} with generation ${progress.generation}`);
        }
      }
      while (loads.length === 0) await sleep(50);
      return {
        seconds,
        mebibytes: most,
        delay: Math.max(...loads.map(({ eventLoopDelayMs }) => eventLoopDelayMs.p99)),
      };
    }
    if (count === 1 || open === count) most = Math.max(most, memory());
    await sleep(SAMPLE_MS);
  }
}

try {
  for (const name of accounts) {
    await client.post('/v1/providers', {
      name,
      protocol: 'open_inference',
      base_url: provider.url,
      remote_model: provider.model,
      limits: {
        concurrency: Number(values['in-flight']) * (values.shared ? jobCount : 1),
        prompts_per_request: Number(values['prompts-per-request']),
      },
    });
  }
  const example = await readExample('fluent-contrast-subgroups', 'seed-1');
  const classes = example.classes.slice(0, Number(values.classes));
  const images = classes.flatMap((name) =>
    example.train.filter(({ label }) => label === name).slice(0, Number(values.shots)),
  );
  const file = (await client.upload('/v1/files', 'train.jsonl', toJsonl(images))).id;
  // The first job finds nothing in memory yet.
  await run(1, file);
  const rounds = [];
  for (let i = 0; i < Number(values.repeats); i++) rounds.push([await run(1, file), await run(jobCount, file)]);
  const of = (pick) => median(rounds.map(pick));
  const one = of(([single]) => single.seconds);
  const all = of(([, many]) => many.seconds);
  const delay = of(([, many]) => many.delay);
  const further = of(([single, many]) => (many.mebibytes - single.mebibytes) / Math.max(1, jobCount - 1));
  report(
    `${jobCount} jobs on one worker (${availableParallelism()} cores, ${values.latency} ms latency, ${generations} generations, ${values['prompts-per-request']} prompts a request, ${values['in-flight']} in flight for each job, ${images.length} images, ${classes.length} classes, ${JSON.stringify(hyperparameters)})`,
    [
      {
        name: `${jobCount} jobs at once, wall time`,
        value: all,
        unit: 's',
        reference: 'one job',
        referenceValue: one,
        target: '≤ 1.2',
        met: all / one <= 1.2,
      },
      { name: 'event-loop delay, p99', value: delay, unit: 'ms', target: '< 50', met: delay < 50 },
      { name: 'memory of a further job', value: further, unit: 'MiB', target: '< 30', met: further < 30 },
    ],
    values.json,
  );
} finally {
  stopping = true;
  await service.stop();
  await provider.close();
}
