// Accuracy against image queries, through the whole service over HTTP: every strategy on both example data sets.
//   npm run bench:accuracy [-- --quick] [--seeds 1,2,3] [--data NAME] [--no-paper] [--write]
// --write makes docs/accuracy.md and its plots of all that was measured; --quick runs one seed, without the published
// algorithm at its full budget. What was measured is kept in bench/accuracy.json, beside
// what was measured before: a run of one part (--only economy-2) writes the whole document all the same.
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { readExample, toJsonl } from '../dist/demo/example-data.js';
import { heldOutAccuracy } from '../dist/demo/held-out-accuracy.js';
import { checkTargets, writeDocument } from './accuracy-document.mjs';
import { startService } from './service.mjs';

const DATA_SETS = ['fluent-contrast-subgroups', 'fluent-flat-subgroups'];

const { values } = parseArgs({
  options: {
    quick: { type: 'boolean', default: false },
    seeds: { type: 'string' },
    data: { type: 'string' },
    paper: { type: 'boolean', default: true },
    write: { type: 'boolean', default: false },
    only: { type: 'string' },
  },
  allowNegative: true,
});
const seeds = (values.seeds ?? (values.quick ? '1' : '1,2,3')).split(',').map(Number);
const names = values.data ? [values.data] : DATA_SETS;
const KEPT = fileURLToPath(new URL('accuracy.json', import.meta.url));

/** Each: who trains, on how many shots, with how many queries per training image, and queries that a prediction costs. */
function experiments() {
  const economy = (shots, factor, queries = 1) => ({ strategy: 'economy', shots, factor, queries });
  const list = values.quick
    ? [economy(16, 1), economy(16, 4), economy(16, 8), economy(16, 8, 2), economy(4, 1)]
    : [
        ...[1, 2, 4, 8, 20, 200].map((factor) => economy(16, factor)),
        ...[2, 8, 20].map((factor) => economy(16, factor, 2)),
        ...[8, 16].map((factor) => economy(16, factor, 8)),
        ...[1, 2, 4, 8].flatMap((shots) => [economy(shots, 1), economy(shots, 8)]),
        ...[0.25, 0.02].map((factor) => economy(16, factor)),
      ];
  if (values.paper && !values.quick)
    list.push(...[200, 8200].map((factor) => ({ strategy: 'paper', shots: 16, factor, queries: 1 })));
  return list.filter(({ strategy, queries }) => !values.only || values.only === `${strategy}-${queries}`);
}

const keyOf = ({ data, seed, strategy, shots, factor, queries }) =>
  [data, seed, strategy, shots, factor, queries].join();

async function measure(client, provider, { data, seed, strategy, shots, factor, queries }) {
  const example = await readExample(data, `seed-${seed}`);
  const taken = new Map();
  const train = example.train.filter(({ label }) => {
    taken.set(label, (taken.get(label) ?? 0) + 1);
    return taken.get(label) <= shots;
  });
  const file = await client.upload('/v1/files', `${data}.jsonl`, toJsonl(train));
  const startedAt = performance.now();
  let job = await client.post('/v1/fine_tuning/jobs', {
    model: provider.name,
    training_file: file.id,
    seed,
    method: {
      type: 'craft',
      craft: {
        strategy,
        ...(queries > 1 ? { prediction_queries: queries } : {}),
        budget: { max_image_queries: Math.max(1, Math.round(factor * train.length)) },
      },
    },
  });
  while (['queued', 'running'].includes(job.status)) {
    await sleep(100);
    job = await client.get(`/v1/fine_tuning/jobs/${job.id}`);
  }
  const seconds = (performance.now() - startedAt) / 1000;
  if (job.status !== 'succeeded') throw new Error(`${job.id} ended ${job.status}: ${job.error?.message}`);
  const accuracy = await heldOutAccuracy(example, (images) =>
    client.post(`/v1/adapters/${job.fine_tuned_model}/predict`, { images, top_k: 1 }),
  );
  const zeroShot = await heldOutAccuracy(example, (images) =>
    client.post(`/v1/providers/${provider.id}/zero_shot`, { images, labels: example.classes, top_k: 1 }),
  );
  const { used, limit } = job.budget.image_queries;
  return { accuracy, zeroShot, used, limit, seconds, stopped: job.stop_reason, images: train.length };
}

const measured = existsSync(KEPT) ? JSON.parse(readFileSync(KEPT, 'utf8')) : {};
const todo = experiments();
if (todo.length > 0) {
  const { client, stop } = await startService();
  try {
    const [provider] = (await client.get('/v1/providers')).data;
    console.log(
      'data set                    seed strategy shots budget/N queries/prediction   used  zero-shot  accuracy  seconds',
    );
    for (const data of names) {
      for (const seed of seeds) {
        for (const experiment of todo) {
          const what = { data, seed, ...experiment };
          const row = { ...what, ...(await measure(client, provider, what)) };
          measured[keyOf(what)] = row;
          const cells = [
            data.padEnd(27),
            seed,
            row.strategy.padEnd(8),
            String(row.shots).padStart(5),
            String(row.factor).padStart(8),
          ];
          console.log(
            `${cells.join(' ')} ${String(row.queries).padStart(18)} ${String(row.used).padStart(6)} ${row.zeroShot.toFixed(2).padStart(10)} ${row.accuracy.toFixed(2).padStart(9)} ${row.seconds.toFixed(1).padStart(8)}`,
          );
          if (!values.quick) writeFileSync(KEPT, `${JSON.stringify(measured, null, 1)}\n`);
        }
      }
    }
  } finally {
    await stop();
  }
}
const rows = Object.values(measured);
checkTargets(rows);
if (values.write) writeDocument(rows);
