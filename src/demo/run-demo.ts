import { setTimeout as sleep } from 'node:timers/promises';
import { Client } from './client.js';
import { readExample, toDataUri, toJsonl } from './example-data.js';
import { heldOutAccuracy, type Prediction } from './held-out-accuracy.js';
import { showProgress } from './progress.js';

const EXAMPLE = 'fluent-contrast-subgroups';
const SPLIT = 'seed-1';
/** What the default strategy may spend, and the published algorithm. */
const QUERIES_PER_IMAGE = 8;
const PROMPT_EVALUATIONS = 8000;
const POLL_MS = 500;
/** What the tuned adapter must gain over the black box alone. */
const MINIMUM_GAIN_POINTS = 15;

const UNITS = ['prompt_evaluations', 'image_queries', 'requests'] as const;
type Counts = Record<(typeof UNITS)[number], number>;

interface Job {
  id: string;
  status: string;
  progress: { generation: number; generations: number };
  metrics: { current: { train_accuracy: number } | null };
  budget: Record<(typeof UNITS)[number], { limit: number | null; used: number }>;
  plan: { strategy: string; total: Counts };
  fine_tuned_model: string | null;
  error: { message: string } | null;
}

/**
 * The product's main path over HTTP: upload, train, poll, predict images that training never saw, and compare what our
 * ledger says was spent with what the provider says it served.
 * @returns whether everything came out as promised
 */
export async function runDemo(server: {
  url: string;
  apiKey: string;
  provider: { url: string; key: string };
}): Promise<boolean> {
  const say = (line = '') => process.stdout.write(`${line}\n`);
  const client = new Client(server.url, server.apiKey);
  const example = await readExample(EXAMPLE, SPLIT);
  const provider = (await client.get<{ data: { id: string; name: string; usage: Counts }[] }>('/v1/providers')).data[0];
  const before = await served(server.provider);

  say(`1. Upload ${EXAMPLE}: ${example.train.length} labelled images, ${example.classes.length} classes`);
  const file = await client.upload<{ id: string }>('/v1/files', `${EXAMPLE}.jsonl`, toJsonl(example.train));
  say(`   ${file.id}`);

  const queries = QUERIES_PER_IMAGE * example.train.length;
  say(`2. Train against the black box "${provider.name}" with at most ${queries} image queries`);
  const economy = await train(client, file.id, provider.name, { budget: { max_image_queries: queries } });
  say(`3. Train by the published algorithm with at most ${PROMPT_EVALUATIONS} prompt evaluations`);
  const paper = await train(client, file.id, provider.name, {
    strategy: 'paper',
    budget: { max_prompt_evaluations: PROMPT_EVALUATIONS },
  });

  say(`4. Predict ${example.test.length} images that training never saw`);
  const zeroShot = await heldOutAccuracy(example, (images) =>
    client.post<Prediction>(`/v1/providers/${provider.id}/zero_shot`, { images, labels: example.classes, top_k: 1 }),
  );
  say(`   zero-shot           ${zeroShot.toFixed(2)} %`);
  const gains: number[] = [];
  for (const job of [economy, paper]) {
    const tuned = await heldOutAccuracy(example, (images) =>
      client.post<Prediction>(`/v1/adapters/${job.fine_tuned_model}/predict`, { images, top_k: 1 }),
    );
    gains.push(tuned - zeroShot);
    const spent = job.budget.image_queries.used.toLocaleString('en');
    say(`   ${job.plan.strategy.padEnd(18)}  ${tuned.toFixed(2)} %  after ${spent} image queries`);
  }

  const [shown] = example.test;
  const one = await client.post<Prediction>(`/v1/adapters/${economy.fine_tuned_model}/predict`, {
    images: [toDataUri(shown.bytes)],
  });
  say(`   ${shown.path} is "${shown.label}"; the ${economy.plan.strategy} adapter says:`);
  for (const { label, score } of one.data[0].predictions)
    say(`     ${(score * 100).toFixed(1).padStart(5)} %  ${label}`);

  const equal = await compareSpending(client, server.provider, { provider, before }, say);
  const gained = gains.every((gain) => gain >= MINIMUM_GAIN_POINTS);
  if (!gained) say(`An adapter gained less than ${MINIMUM_GAIN_POINTS} points.`);
  say(
    equal && gained ? 'Done: it learned, and not a query was miscounted.' : 'The demo did not come out as it should.',
  );
  return equal && gained;
}

async function train(client: Client, trainingFile: string, model: string, craft: object): Promise<Job> {
  let job = await client.post<Job>('/v1/fine_tuning/jobs', {
    model,
    training_file: trainingFile,
    seed: 1,
    suffix: 'demo',
    method: { type: 'craft', craft },
  });
  const progress = showProgress(job.progress.generations);
  while (job.status === 'queued' || job.status === 'running') {
    await sleep(POLL_MS);
    job = await client.get<Job>(`/v1/fine_tuning/jobs/${job.id}`);
    progress.update(job.progress.generation, job.metrics.current?.train_accuracy ?? null);
  }
  progress.stop();
  if (job.status !== 'succeeded') throw new Error(`The job ended ${job.status}: ${job.error?.message}`);
  process.stdout.write(`   ${job.id} succeeded: ${job.fine_tuned_model}\n`);
  return job;
}

async function served({ url, key }: { url: string; key: string }): Promise<Counts> {
  const response = await fetch(`${url}/control/usage`, { headers: { authorization: `Bearer ${key}` } });
  return ((await response.json()) as { totals: Counts }).totals;
}

async function compareSpending(
  client: Client,
  reference: { url: string; key: string },
  start: { provider: { id: string; usage: Counts }; before: Counts },
  say: (line: string) => void,
): Promise<boolean> {
  const { usage } = await client.get<{ usage: Counts }>(`/v1/providers/${start.provider.id}`);
  const after = await served(reference);
  say('5. Queries spent                 our ledger    counted by the provider');
  let equal = true;
  for (const unit of UNITS) {
    const ours = usage[unit] - start.provider.usage[unit];
    const theirs = after[unit] - start.before[unit];
    if (ours !== theirs) equal = false;
    say(`   ${unit.padEnd(24)} ${String(ours).padStart(15)} ${String(theirs).padStart(26)}`);
  }
  if (!equal) say('   They differ.');
  return equal;
}
