// What the service adds to a call of the provider: one 64×64 image for each call, from callers at the same time. Both sides by
// turns in one run: the embedded provider called directly with the question that the service asks, and predictions of an
// adapter that was trained at it. Three providers, because they differ in what "adds" means:
// - new images, as callers' images are: the model computes on this machine's cores, which it then shares with the service;
// - known images: the provider has them in its cache, so that little but the service itself is measured;
// - known images and a provider that answers so much later, as a provider elsewhere does: its time takes no core from anybody.
// A bare proxy in the service's place tells what a hop costs at least.
import { parseArgs } from 'node:util';
import sharp from 'sharp';
import { decodeAdapter } from '../dist/adapters/adapter-file.js';
import { Random } from '../dist/craft/random.js';
import { readExample, toDataUri, toJsonl } from '../dist/demo/example-data.js';
import { encodeInferRequest } from '../dist/formats/open-inference-binary.js';
import { startBareProxy } from './bare-proxy.mjs';
import { closedLoop, counted, percentile } from './closed-loop.mjs';
import { median, report } from './report.mjs';
import { startService } from './service.mjs';

const { values } = parseArgs({
  options: {
    callers: { type: 'string', default: '16' },
    requests: { type: 'string', default: '800' },
    repeats: { type: 'string', default: '5' },
    /** Extra rows against a provider that answers so much later. */
    latency: { type: 'string', default: '50' },
    json: { type: 'string' },
  },
});
const callers = Number(values.callers);
const requests = Number(values.requests);
const SIZE = 64;
const MODEL = 'emoji-clip';
const TARGETS = { p50: 2, p99: 5 };
const PROXY = 'a bare proxy';
const SIDES = ['directly', 'JSON', 'multipart', PROXY];

const random = Random.stream(1, 'bench/predict');
const example = await readExample('fluent-contrast-subgroups', 'seed-1');

/** An image that nobody has seen: one of the example's training images with noise. */
async function newImage(index) {
  const { data, info } = await sharp(example.train[index % example.train.length].bytes)
    .resize(SIZE, SIZE, { fit: 'fill' })
    .flatten({ background: '#ffffff' })
    .raw()
    .toBuffer({ resolveWithObject: true });
  for (let i = 0; i < data.length; i++) data[i] = Math.max(0, Math.min(255, data[i] + 4 * random.normal()));
  return sharp(data, { raw: info }).png().toBuffer();
}

async function knownImages(count) {
  known ??= await newImages(64);
  return Array.from({ length: count }, (_, i) => known[i % known.length]);
}
let known;

async function newImages(count) {
  const images = [];
  for (let i = 0; i < count; i++) images.push(await newImage(i));
  return images;
}

async function trainAdapter(client) {
  const file = await client.upload('/v1/files', 'train.jsonl', toJsonl(example.train));
  let job = await client.post('/v1/fine_tuning/jobs', {
    model: MODEL,
    training_file: file.id,
    seed: 1,
    // One query for each image: a refinement head and no search.
    method: { type: 'craft', craft: { strategy: 'economy', budget: { max_prompt_evaluations: 1 } } },
  });
  while (['queued', 'running'].includes(job.status)) {
    await new Promise((resolve) => setTimeout(resolve, 100));
    job = await client.get(`/v1/fine_tuning/jobs/${job.id}`);
  }
  if (job.status !== 'succeeded') throw new Error(`The job ended ${job.status}: ${JSON.stringify(job.error)}`);
  return job.fine_tuned_model;
}

/** The request that the service itself would send for one image. */
function direct(provider, { weights, about }) {
  const { prompt } = weights;
  const labels = [...about.classes, ...(about.probes ?? [])];
  const text = new TextEncoder();
  const shape = prompt.space === 'soft' && [1, prompt.contextTokens, prompt.contextWidth];
  return (image) => {
    const { headers, body } = encodeInferRequest({
      parameters: { binary_data_output: true },
      inputs: [
        { name: 'images', datatype: 'BYTES', shape: [1], data: [image] },
        {
          name: 'class_names',
          datatype: 'BYTES',
          shape: [labels.length],
          data: labels.map((name) => text.encode(name)),
        },
        shape
          ? { name: 'context', datatype: 'FP32', shape, data: prompt.context }
          : { name: 'template', datatype: 'BYTES', shape: [1], data: [text.encode(prompt.template)] },
      ],
      outputs: [{ name: 'logits', parameters: { binary_data: true } }],
    });
    return {
      method: 'POST',
      path: `/v2/models/${MODEL}/infer`,
      headers: { ...headers, authorization: `Bearer ${provider.key}` },
      body: Buffer.from(body),
    };
  };
}

function asJson(path, key) {
  return (image) => ({
    method: 'POST',
    path,
    headers: { authorization: `Bearer ${key}`, 'content-type': 'application/json' },
    body: JSON.stringify({ images: [toDataUri(image)] }),
  });
}

function asForm(path, key) {
  const boundary = 'craft-bench-boundary';
  const head = `--${boundary}\r\ncontent-disposition: form-data; name="images"; filename="a.png"\r\ncontent-type: image/png\r\n\r\n`;
  return (image) => ({
    method: 'POST',
    path,
    headers: { authorization: `Bearer ${key}`, 'content-type': `multipart/form-data; boundary=${boundary}` },
    body: Buffer.concat([Buffer.from(head), image, Buffer.from(`\r\n--${boundary}--\r\n`)]),
  });
}

async function misbehave({ url, key }, plan) {
  const response = await fetch(`${url}/control/misbehave`, {
    method: 'POST',
    headers: { authorization: `Bearer ${key}`, 'content-type': 'application/json' },
    body: JSON.stringify(plan),
  });
  if (!response.ok) throw new Error(await response.text());
}

/** @returns per side, the medians over all repeats of p50 and p99, in milliseconds */
async function compare(sides, images, count, repeats) {
  const seen = sides.map(() => ({ p50: [], p99: [], rate: [] }));
  for (let repeat = -1; repeat < repeats; repeat++) {
    for (const [side, { origin, make }] of sides.entries()) {
      const made = (await images(count)).map(make);
      const { latencies, seconds } = await closedLoop({ origin, callers, next: counted(made.length, (i) => made[i]) });
      // The first round is for the compilers and the connections.
      if (repeat < 0) continue;
      seen[side].p50.push(percentile(latencies, 0.5));
      seen[side].p99.push(percentile(latencies, 0.99));
      seen[side].rate.push(latencies.length / seconds);
    }
  }
  return seen.map(({ p50, p99, rate }) => ({ p50: median(p50), p99: median(p99), rate: median(rate) }));
}

function rowsOf(name, direct, service, judged) {
  return Object.keys(TARGETS).map((which) => ({
    name: `${name}, added ${which}`,
    value: service[which] - direct[which],
    unit: 'ms',
    reference: 'the direct call',
    referenceValue: direct[which],
    ...(judged ? { target: `≤ ${TARGETS[which]} ms`, met: service[which] - direct[which] <= TARGETS[which] } : {}),
  }));
}

async function measure(name, environment, judged) {
  const { client, provider, url, apiKey, stop } = await startService({
    CRAFT_RATE_LIMIT_PER_MINUTE: '1000000000',
    ...environment,
  });
  const proxy = await startBareProxy(provider.url);
  try {
    const adapter = await trainAdapter(client);
    const exported = await fetch(`${url}/v1/adapters/${adapter}/export`, {
      headers: { authorization: `Bearer ${apiKey}` },
    });
    const file = decodeAdapter(new Uint8Array(await exported.arrayBuffer()));
    const path = `/v1/adapters/${adapter}/predict`;
    const sides = [
      { origin: provider.url, make: direct(provider, file) },
      { origin: url, make: asJson(path, apiKey) },
      { origin: url, make: asForm(path, apiKey) },
      ...(judged ? [{ origin: proxy.url, make: direct(provider, file) }] : []),
    ];
    const rows = [];
    const add = async (kind, compared, images, count, repeats) => {
      const seen = await compare(compared, images, count, repeats);
      for (const [i, { p50, p99, rate }] of seen.entries()) {
        const side = SIDES[i];
        console.log(
          `${name} ${kind} ${side.padEnd(12)} p50 ${p50.toFixed(2)} ms  p99 ${p99.toFixed(2)} ms  ${rate.toFixed(0)} a second`,
        );
        if (i > 0) rows.push(...rowsOf(`${name}, ${kind}: ${side}`, seen[0], seen[i], judged && side !== PROXY));
      }
    };
    const repeats = Number(values.repeats);
    await add('new images', sides, newImages, requests, repeats);
    await add('known images', sides, knownImages, requests, repeats);
    await misbehave(provider, { latency_ms: Number(values.latency) });
    await add(`a provider of ${values.latency} ms`, sides, knownImages, Math.ceil(requests / 2), repeats);
    return rows;
  } finally {
    await proxy.stop();
    await stop();
  }
}

const rows = [
  ...(await measure('batched', {}, true)),
  ...(await measure('not batched', { CRAFT_PREDICT_BATCH_MS: '0' }, false)),
];
report(`What a prediction adds to the provider's own time (${callers} callers)`, rows, values.json);
