// Whether a job uses the request rate that its provider allows: whole jobs through the service, with the reference
// provider behind a proxy that adds a latency and answers 429 to every request beyond the limit in any second.
//   npm run bench:pipeline [-- --pairs 200:50,1000:20,50:100] [--generations 3] [--generation-seconds 15] [--jitter 10]
// A pair is latency in ms : requests per second. Images per request are chosen so that a generation takes the given time
// at the limit: each has two waits of a latency that nothing fills, so the shorter it is, the more they weigh.
import { createServer, request as httpRequest } from 'node:http';
import { buffer } from 'node:stream/consumers';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { readExample, toJsonl } from '../dist/demo/example-data.js';
import { startService } from './service.mjs';

const { values } = parseArgs({
  options: {
    pairs: { type: 'string', default: '200:50,1000:20,50:100' },
    generations: { type: 'string', default: '3' },
    'generation-seconds': { type: 'string', default: '15' },
    jitter: { type: 'string', default: '10' },
  },
});
/** Prompts that a generation scores: 40 candidates, and the centre on training and on validation images. */
const PROMPTS_PER_GENERATION = 42;
const pairs = values.pairs.split(',').map((pair) => pair.split(':').map(Number));

const { client, provider: embedded, stop } = await startService({ CRAFT_ALLOWED_NETWORKS: 'loopback' });

/** Between the service and the model at `target`: a limit in every sliding second, then the latency. */
async function openLimitedProxy(target, latencyMs, perSecond) {
  const seen = { requests: 0, refused: 0, first: Number.NaN, last: Number.NaN };
  let window = [];
  const server = createServer(async (request, response) => {
    const body = buffer(request);
    const jitterMs = Math.random() * Number(values.jitter);
    await sleep(jitterMs);
    const now = performance.now();
    window = window.filter((at) => at > now - 1000);
    if (window.length >= perSecond) {
      seen.refused++;
      await body;
      response.writeHead(429).end('{"error":"Too many requests."}');
      return;
    }
    window.push(now);
    seen.requests++;
    if (seen.requests === 1) seen.first = now;
    const answer = await forward(target, request, await body);
    await sleep(latencyMs - jitterMs);
    response.writeHead(answer.statusCode, answer.headers);
    for await (const chunk of answer) response.write(chunk);
    response.end();
    seen.last = performance.now();
  });
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  return {
    url: `http://127.0.0.1:${server.address().port}`,
    /** Counts from now on. */
    restart: () => Object.assign(seen, { requests: 0, refused: 0 }),
    seen,
    close: () => {
      server.closeAllConnections();
      server.close();
    },
  };
}

function forward(target, { method, url: path, headers }, body) {
  return new Promise((resolve, reject) => {
    httpRequest(target + path, { method, headers }, resolve)
      .on('error', reject)
      .end(body);
  });
}

async function measure(trainingFile, imageCount, latencyMs, perSecond) {
  const requestsPerGeneration = perSecond * Number(values['generation-seconds']);
  const imagesPerRequest = Math.max(1, Math.round((imageCount * PROMPTS_PER_GENERATION) / requestsPerGeneration));
  const proxy = await openLimitedProxy(embedded.url, latencyMs, perSecond);
  try {
    const provider = await client.post('/v1/providers', {
      name: `limited-${latencyMs}-${perSecond}`,
      protocol: 'open_inference',
      base_url: proxy.url,
      remote_model: 'emoji-clip',
      credentials: { type: 'bearer', token: embedded.key },
      limits: {
        requests_per_second: perSecond,
        // A second's worth at once, and what of the second before is not answered yet.
        concurrency: Math.min(256, Math.ceil(perSecond * (1 + latencyMs / 1000))),
        images_per_request: imagesPerRequest,
        prompts_per_request: 1,
      },
    });
    const evaluations = PROMPTS_PER_GENERATION * Number(values.generations);
    proxy.restart();
    const startedAt = performance.now();
    let job = await client.post('/v1/fine_tuning/jobs', {
      model: provider.name,
      training_file: trainingFile,
      seed: 1,
      method: { type: 'craft', craft: { strategy: 'paper', budget: { max_prompt_evaluations: evaluations } } },
    });
    while (['queued', 'running'].includes(job.status)) {
      await sleep(20);
      job = await client.get(`/v1/fine_tuning/jobs/${job.id}`);
    }
    const jobSeconds = (performance.now() - startedAt) / 1000;
    if (job.status !== 'succeeded') throw new Error(`${job.id} ended ${job.status}: ${job.error?.message}`);
    const { requests, refused, first, last } = proxy.seen;
    const seconds = (last - first) / 1000;
    const least = requests / perSecond;
    return {
      'latency ms': latencyMs,
      'limit/s': perSecond,
      'images/request': imagesPerRequest,
      generations: job.progress.generation,
      requests,
      'requests ÷ limit, s': Number(least.toFixed(2)),
      'first to last, s': Number(seconds.toFixed(2)),
      ratio: Number((seconds / least).toFixed(3)),
      'POST to succeeded, s': Number(jobSeconds.toFixed(2)),
      'answered 429': refused,
    };
  } finally {
    proxy.close();
  }
}

try {
  const example = await readExample('fluent-contrast-subgroups', 'seed-1');
  const file = await client.upload('/v1/files', 'train.jsonl', toJsonl(example.train));
  console.log(`${example.train.length} images, one prompt in each request`);
  const rows = [];
  for (const [latencyMs, perSecond] of pairs) {
    rows.push(await measure(file.id, example.train.length, latencyMs, perSecond));
  }
  console.table(rows);
} finally {
  await stop();
}
