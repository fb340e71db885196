// A job, and predictions with its adapter, through each protocol over real HTTP, against the embedded black box:
//   npm run bench:providers [-- --evaluations 400] [--shots 4] [--seed 1] [--data fluent-contrast-subgroups]
//     [--only Embeddings] [--hyperparameters '{"population_size": 20}'] [--write]
// --write puts the table into docs/providers.md.
import { readFile, writeFile } from 'node:fs/promises';
import { cpus } from 'node:os';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { readExample, toJsonl } from '../dist/demo/example-data.js';
import { heldOutAccuracy } from '../dist/demo/held-out-accuracy.js';
import { startService } from './service.mjs';

const DOCUMENT = new URL('../docs/providers.md', import.meta.url);
const START = '<!-- made by npm run bench:providers -->';
const END = '<!-- end -->';
const MODEL = 'emoji-clip';
/** Of the embedded model. */
const SCALE = 23.024559;

const { values } = parseArgs({
  options: {
    evaluations: { type: 'string', default: '400' },
    shots: { type: 'string', default: '4' },
    seed: { type: 'string', default: '1' },
    data: { type: 'string', default: 'fluent-contrast-subgroups' },
    only: { type: 'string' },
    hyperparameters: { type: 'string', default: '{}' },
    write: { type: 'boolean', default: false },
  },
});

const bases = { soft: '', text: '', huggingFace: `/models/${MODEL}`, chat: '/v1', embeddings: '/v1', custom: '' };

/** Rows of the table; settings are what the record needs beyond its address. */
const ROWS = [
  { name: 'Open Inference v2, soft prompts', protocol: 'open_inference', base: bases.soft, space: 'soft' },
  { name: 'Open Inference v2, text prompts', protocol: 'open_inference', base: bases.text, space: 'text' },
  { name: 'Hugging Face zero-shot', protocol: 'hugging_face', base: bases.huggingFace, limits: { concurrency: 8 } },
  {
    name: 'OpenAI-compatible chat',
    protocol: 'openai_chat',
    base: bases.chat,
    settings: { max_image_tokens: 85 },
    limits: { concurrency: 8 },
  },
  {
    name: 'Embeddings',
    protocol: 'embeddings',
    base: bases.embeddings,
    settings: { scale: SCALE, max_image_tokens: 85, texts_per_request: 1000 },
  },
  {
    name: 'Custom HTTP',
    protocol: 'custom_http',
    base: bases.custom,
    settings: {
      path: `/models/${MODEL}`,
      body: {
        inputs: '{{image_base64}}',
        parameters: { candidate_labels: '{{labels}}', hypothesis_template: '{{template}}' },
      },
      result: { kind: 'probabilities', scores: '$[*].score', labels: '$[*].label' },
    },
    limits: { concurrency: 8 },
  },
];

const { client, provider: embedded, stop } = await startService();
const example = await readExample(values.data, `seed-${values.seed}`);
const file = await client.upload('/v1/files', `${values.data}.jsonl`, toJsonl(example.train));

async function measure({ protocol, base, space, settings = {}, limits = {} }, index) {
  const provider = await client.post('/v1/providers', {
    name: `row-${index}`,
    protocol,
    base_url: embedded.url + base,
    remote_model: MODEL,
    credentials: { type: 'bearer', token: embedded.key },
    settings,
    limits: { images_per_request: 1024, ...limits },
  });
  const startedAt = performance.now();
  let job = await client.post('/v1/fine_tuning/jobs', {
    model: provider.name,
    training_file: file.id,
    seed: Number(values.seed),
    method: {
      type: 'craft',
      craft: {
        strategy: 'paper',
        shots: Number(values.shots),
        hyperparameters: JSON.parse(values.hyperparameters),
        budget: { max_prompt_evaluations: Number(values.evaluations) },
        ...(space ? { prompt_space: space } : {}),
      },
    },
  });
  while (['queued', 'running'].includes(job.status)) {
    await sleep(100);
    job = await client.get(`/v1/fine_tuning/jobs/${job.id}`);
  }
  const seconds = (performance.now() - startedAt) / 1000;
  if (job.status !== 'succeeded') throw new Error(`${job.id} ended ${job.status}: ${JSON.stringify(job)}`);
  const tuned = await heldOutAccuracy(example, (images) =>
    client.post(`/v1/adapters/${job.fine_tuned_model}/predict`, { images, top_k: 1 }),
  );
  const zeroShot = await heldOutAccuracy(example, (images) =>
    client.post(`/v1/providers/${provider.id}/zero_shot`, { images, labels: example.classes, top_k: 1 }),
  );
  return { job, zeroShot, tuned, seconds };
}

const thousands = (count) => count.toLocaleString('en-US');
const lines = [
  '| protocol | zero-shot | tuned | prompt evaluations | image queries | text embeddings | requests | time |',
  '|---|---:|---:|---:|---:|---:|---:|---:|',
];
try {
  for (const [index, row] of ROWS.entries()) {
    if (values.only && !row.name.includes(values.only)) continue;
    const { job, zeroShot, tuned, seconds } = await measure(row, index);
    const { prompt_evaluations, image_queries, requests, noted } = job.budget;
    lines.push(
      `| ${row.name} | ${zeroShot.toFixed(1)} % | ${tuned.toFixed(1)} % | ${thousands(prompt_evaluations.used)} | ` +
        `${thousands(image_queries.used)} | ${thousands(noted.text_embeddings)} | ${thousands(requests.used)} | ${seconds.toFixed(0)} s |`,
    );
    console.log(lines.at(-1), job.metrics.current.prompt ?? '');
  }
} finally {
  await stop();
}

const made =
  `${values.data}, seed ${values.seed}, ${values.shots} shots (${example.classes.length} classes), test accuracy; ` +
  `at most ${values.evaluations} prompt evaluations; ${cpus().length} cores, provider and service on one machine.`;
const table = `${lines.join('\n')}\n\n${made}`;
console.log(`\n${table}`);
if (values.write) {
  const text = await readFile(DOCUMENT, 'utf8');
  const [before, rest] = text.split(START);
  const after = rest.split(END)[1];
  await writeFile(DOCUMENT, `${before}${START}\n\n${table}\n\n${END}${after}`);
}
