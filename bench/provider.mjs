// What the reference provider adds to its model, over HTTP: 40 prompts × 22 classes beside the bare run of the ONNX session on
// the same texts, for one image and for 352 that it knows, which are named by their content as the service names them; and
// new images under a prompt and labels that it knows.
//   npm run bench:provider [-- --repeats 15] [--json FILE]
import { createHash } from 'node:crypto';
import { availableParallelism } from 'node:os';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { Tensor } from 'onnxruntime-node';
import sharp from 'sharp';
import { request } from 'undici';
import { readExample } from '../dist/demo/example-data.js';
import { decodeInferResponse, encodeInferRequest, HEADER_LENGTH_FIELD } from '../dist/formats/open-inference-binary.js';
import { readModelFiles } from '../dist/reference-provider/model-files.js';
import { openSession } from '../dist/reference-provider/onnx-session.js';
import { startOwnProvider } from './own-provider.mjs';
import { median, report } from './report.mjs';

const { values: options } = parseArgs({
  options: { json: { type: 'string' }, repeats: { type: 'string', default: '15' } },
});

const MODEL_DIRECTORY = fileURLToPath(new URL('../models/emoji-clip', import.meta.url));
const REPEATS = Number(options.repeats);
const PROMPTS = 40;
const TARGET = 1.3;
const LABELS = 150;
const IMAGES_PER_RUN = 64;

const files = await readModelFiles(MODEL_DIRECTORY);
const { width, context_positions, default_template } = files.config.text;
const contextSize = context_positions.length * width;
const { train, classes } = await readExample('fluent-contrast-subgroups', 'seed-1');
const images = train.map(({ bytes }) => bytes);

async function timed(work) {
  const start = performance.now();
  await work();
  return performance.now() - start;
}

const bytesTensor = (name, data) => ({ name, datatype: 'BYTES', shape: [data.length], data });
const textTensor = (name, texts) =>
  bytesTensor(
    name,
    texts.map((text) => Buffer.from(text)),
  );

function someContexts(seed) {
  return Float32Array.from({ length: PROMPTS * contextSize }, (_, i) => 0.3 * Math.sin((i + 1) * (seed + 1)));
}

/** [prompts × classes, length, width], cut to the longest text, as the session takes it. */
function bareTexts(contexts) {
  const texts = classes.map((name) => files.tokenizer.encode(default_template.replace('{}', () => name)));
  const length = Math.max(...texts.map(({ endIndex }) => endIndex)) + 1;
  const rows = PROMPTS * texts.length;
  const embeddings = new Float32Array(rows * length * width);
  const ends = new BigInt64Array(rows);
  for (let row = 0; row < rows; row++) {
    const { ids, endIndex } = texts[row % texts.length];
    const prompt = Math.floor(row / texts.length);
    const start = row * length * width;
    for (let i = 0; i < length; i++) {
      embeddings.set(files.tokenEmbedding.subarray(ids[i] * width, (ids[i] + 1) * width), start + i * width);
    }
    embeddings.set(contexts.subarray(prompt * contextSize, (prompt + 1) * contextSize), start + width);
    ends[row] = BigInt(endIndex);
  }
  return {
    prompt_embeddings: new Tensor('float32', embeddings, [rows, length, width]),
    end_index: new Tensor('int64', ends, [rows]),
  };
}

async function ask(url, inputs) {
  const { headers, body } = encodeInferRequest({ inputs, parameters: { binary_data_output: true } });
  const response = await request(`${url}/v2/models/${files.config.name}/infer`, { method: 'POST', headers, body });
  const answer = new Uint8Array(await response.body.arrayBuffer());
  if (response.statusCode !== 200) throw new Error(Buffer.from(answer).toString());
  return decodeInferResponse(answer, response.headers[HEADER_LENGTH_FIELD]).outputs[0];
}

const referenceOf = (image) => Buffer.from(`sha256:${createHash('sha256').update(image).digest('hex')}`);

async function candidateRow(url, count) {
  const session = await openSession(files.textPath, availableParallelism());
  const shape = [PROMPTS, context_positions.length, width];
  const known = images.slice(0, count);
  await ask(url, [
    bytesTensor('images', known),
    textTensor('class_names', classes),
    textTensor('template', [default_template]),
  ]);
  const references = known.map(referenceOf);
  const inputs = (data) => [
    bytesTensor('images', references),
    textTensor('class_names', classes),
    { name: 'context', datatype: 'FP32', shape, data },
  ];
  const requests = [];
  const runs = [];
  // The first ones warm up.
  for (let repeat = -2; repeat < REPEATS; repeat++) {
    // New ones for each request: what was asked before is remembered.
    const contexts = someContexts(1000 * count + repeat + 2);
    const feeds = bareTexts(contexts);
    const run = await timed(() => session.run(feeds));
    const asked = await timed(() => ask(url, inputs(contexts)));
    if (repeat < 0) continue;
    runs.push(run);
    requests.push(asked);
  }
  await session.release();
  const [value, referenceValue] = [median(requests), median(runs)];
  return {
    name: `request: ${PROMPTS} prompts × ${classes.length} classes × ${count === 1 ? '1 known image' : `${count} known images`}`,
    value,
    unit: 'ms',
    reference: `bare session run, ${availableParallelism()} threads`,
    referenceValue,
    target: `≤ ${TARGET}`,
    met: value / referenceValue <= TARGET,
  };
}

/** Weak crops, each another one. */
function views(seed) {
  return Promise.all(
    images.map((image, i) => {
      const cut = { left: (i + seed) % 4, top: seed % 4, width: 60, height: 60 };
      return sharp(image)
        .extract(cut)
        .png()
        .withExif({ IFD0: { ImageDescription: `${seed}/${i}` } })
        .toBuffer();
    }),
  );
}

async function viewsRow(url) {
  const session = await openSession(files.visionPath, availableParallelism());
  const { size } = files.config.image;
  const labels = [...classes, ...Array.from({ length: LABELS - classes.length }, (_, i) => `label ${i}`)];
  const requests = [];
  const runs = [];
  const repeats = Math.ceil(REPEATS / 3);
  for (let repeat = -1; repeat < repeats; repeat++) {
    const fresh = await views(repeat + 1);
    const pixels = new Float32Array(IMAGES_PER_RUN * 3 * size * size).fill(0.5);
    const run = await timed(async () => {
      for (let start = 0; start < fresh.length; start += IMAGES_PER_RUN) {
        const count = Math.min(IMAGES_PER_RUN, fresh.length - start);
        const some = new Tensor('float32', pixels.subarray(0, count * 3 * size * size), [count, 3, size, size]);
        await session.run({ pixel_values: some });
      }
    });
    const inputs = [
      bytesTensor('images', fresh),
      textTensor('class_names', labels),
      textTensor('template', [default_template]),
    ];
    const asked = await timed(() => ask(url, inputs));
    if (repeat < 0) continue;
    runs.push(run);
    requests.push(asked);
  }
  await session.release();
  return {
    name: `request: 1 known prompt × ${LABELS} labels × ${images.length} new images`,
    value: median(requests),
    unit: 'ms',
    reference: `bare session runs of ${IMAGES_PER_RUN} decoded images`,
    referenceValue: median(runs),
  };
}

const provider = await startOwnProvider(MODEL_DIRECTORY);
try {
  const rows = [
    await candidateRow(provider.url, 1),
    await candidateRow(provider.url, images.length),
    await viewsRow(provider.url),
  ];
  report('Reference provider: requests over HTTP', rows, options.json);
} finally {
  await provider.stop();
}
