// Accuracy and wall time of the published algorithm, through the whole service, on both example data sets, seeds 1 to 3:
//   npm run bench:paper [-- --evaluations 8000] [--seeds 1,2,3] [--data fluent-contrast-subgroups] [--json FILE]
// --wall: the time of one job on fluent-contrast-subgroups alone, without its accuracy; --repeats 3 for a median.
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { readExample, toJsonl } from '../dist/demo/example-data.js';
import { heldOutAccuracy } from '../dist/demo/held-out-accuracy.js';
import { median, report } from './report.mjs';
import { startService } from './service.mjs';

/** Of the PyTorch reference implementation, in %; examples/README.md. */
const REFERENCE = {
  'fluent-contrast-subgroups': [50.74, 47.78, 48.2],
  'fluent-flat-subgroups': [64.06, 66.38, 62.58],
};

/** Wall time of the in-process PyTorch reference on one core, 8,000 prompt evaluations on fluent-contrast-subgroups. */
const REFERENCE_SECONDS = 44;
const WALL_DATA = 'fluent-contrast-subgroups';
const WALL_TARGET = 0.6;

const { values } = parseArgs({
  options: {
    evaluations: { type: 'string', default: '8000' },
    seeds: { type: 'string', default: '1,2,3' },
    data: { type: 'string' },
    wall: { type: 'boolean', default: false },
    repeats: { type: 'string', default: '1' },
    json: { type: 'string' },
  },
});
const seeds = values.seeds.split(',').map(Number);
const names = values.data ? [values.data] : Object.keys(REFERENCE);

const { client, stop } = await startService();
const provider = (await client.get('/v1/providers')).data[0];

/** @returns the job that succeeded, and the seconds from its POST to then */
async function train(example, name, seed) {
  const file = await client.upload('/v1/files', `${name}.jsonl`, toJsonl(example.train));
  const startedAt = performance.now();
  let job = await client.post('/v1/fine_tuning/jobs', {
    model: provider.name,
    training_file: file.id,
    seed,
    method: {
      type: 'craft',
      craft: { strategy: 'paper', budget: { max_prompt_evaluations: Number(values.evaluations) } },
    },
  });
  while (['queued', 'running'].includes(job.status)) {
    await sleep(100);
    job = await client.get(`/v1/fine_tuning/jobs/${job.id}`);
  }
  const seconds = (performance.now() - startedAt) / 1000;
  if (job.status !== 'succeeded') throw new Error(`${job.id} ended ${job.status}: ${job.error?.message}`);
  return { job, seconds };
}

async function measure(name, seed) {
  const example = await readExample(name, `seed-${seed}`);
  const { job, seconds } = await train(example, name, seed);
  const tuned = await heldOutAccuracy(example, (images) =>
    client.post(`/v1/adapters/${job.fine_tuned_model}/predict`, { images, top_k: 1 }),
  );
  const zeroShot = await heldOutAccuracy(example, (images) =>
    client.post(`/v1/providers/${provider.id}/zero_shot`, { images, labels: example.classes, top_k: 1 }),
  );
  return { zeroShot, tuned, seconds, generations: job.progress.generation };
}

async function wall() {
  const example = await readExample(WALL_DATA, 'seed-1');
  const seconds = [];
  for (let repeat = 0; repeat < Number(values.repeats); repeat++) {
    seconds.push((await train(example, WALL_DATA, 1)).seconds);
  }
  const referenceValue = (REFERENCE_SECONDS * Number(values.evaluations)) / 8000;
  const value = median(seconds);
  return [
    {
      name: `${WALL_DATA}, ${values.evaluations} prompt evaluations, POST to succeeded`,
      value,
      unit: 's',
      reference: 'in-process PyTorch on one core, as stated',
      referenceValue,
      target: `≤ ${WALL_TARGET}`,
      met: value / referenceValue <= WALL_TARGET,
    },
  ];
}

async function accuracies() {
  const rows = [];
  const pad = (text, width) => String(text).padStart(width);
  console.log(`CraFT as published, ${values.evaluations} prompt evaluations, 16 shots, test accuracy in %`);
  console.log(`${'data set'.padEnd(28)}seed  zero-shot   tuned  reference  generations  POST to succeeded`);
  for (const name of names) {
    const tuned = [];
    for (const seed of seeds) {
      const result = await measure(name, seed);
      tuned.push(result.tuned);
      console.log(
        `${name.padEnd(28)}${pad(seed, 4)}${pad(result.zeroShot.toFixed(2), 11)}${pad(result.tuned.toFixed(2), 8)}` +
          `${pad(REFERENCE[name][seed - 1]?.toFixed(2) ?? '', 11)}${pad(result.generations, 13)}${pad(`${result.seconds.toFixed(1)} s`, 19)}`,
      );
    }
    const mean = (list) => (list.reduce((sum, value) => sum + value, 0) / list.length).toFixed(2);
    rows.push({
      name: `${name}, tuned, mean of seeds`,
      value: tuned.reduce((sum, value) => sum + value, 0) / tuned.length,
      unit: '%',
    });
    console.log(`${name.padEnd(28)}mean${pad('', 11)}${pad(mean(tuned), 8)}${pad(mean(REFERENCE[name]), 11)}`);
  }
  return rows;
}

try {
  const rows = values.wall ? await wall() : await accuracies();
  report('The published algorithm through the whole service', rows, values.json);
} finally {
  await stop();
}
