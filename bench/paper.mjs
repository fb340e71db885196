// Accuracy and wall time of the published algorithm, through the whole service, on both example data sets, seeds 1 to 3:
//   npm run bench:paper [-- --evaluations 8000] [--seeds 1,2,3] [--data fluent-contrast-subgroups]
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { readExample, toJsonl } from '../dist/demo/example-data.js';
import { heldOutAccuracy } from '../dist/demo/held-out-accuracy.js';
import { startService } from './service.mjs';

/** Of the PyTorch reference implementation, in %; examples/README.md. */
const REFERENCE = {
  'fluent-contrast-subgroups': [50.74, 47.78, 48.2],
  'fluent-flat-subgroups': [64.06, 66.38, 62.58],
};

const { values } = parseArgs({
  options: {
    evaluations: { type: 'string', default: '8000' },
    seeds: { type: 'string', default: '1,2,3' },
    data: { type: 'string' },
  },
});
const seeds = values.seeds.split(',').map(Number);
const names = values.data ? [values.data] : Object.keys(REFERENCE);

const { client, stop } = await startService();
const provider = (await client.get('/v1/providers')).data[0];

async function measure(name, seed) {
  const example = await readExample(name, `seed-${seed}`);
  const file = await client.upload('/v1/files', `${name}.jsonl`, toJsonl(example.train));
  const startedAt = performance.now();
  let job = await client.post('/v1/fine_tuning/jobs', {
    model: provider.name,
    training_file: file.id,
    seed,
    method: { type: 'craft', craft: { budget: { max_prompt_evaluations: Number(values.evaluations) } } },
  });
  while (['queued', 'running'].includes(job.status)) {
    await sleep(100);
    job = await client.get(`/v1/fine_tuning/jobs/${job.id}`);
  }
  const seconds = (performance.now() - startedAt) / 1000;
  if (job.status !== 'succeeded') throw new Error(`${job.id} ended ${job.status}: ${job.error?.message}`);
  const tuned = await heldOutAccuracy(example, (images) =>
    client.post(`/v1/adapters/${job.fine_tuned_model}/predict`, { images, top_k: 1 }),
  );
  const zeroShot = await heldOutAccuracy(example, (images) =>
    client.post(`/v1/providers/${provider.id}/zero_shot`, { images, labels: example.classes, top_k: 1 }),
  );
  return { zeroShot, tuned, seconds, generations: job.progress.generation };
}

try {
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
    console.log(`${name.padEnd(28)}mean${pad('', 11)}${pad(mean(tuned), 8)}${pad(mean(REFERENCE[name]), 11)}`);
  }
} finally {
  await stop();
}
