// A black box of the Open Inference Protocol that costs next to no time of the machine: each answer comes so many
// milliseconds after its question, however many there are at once. Run by other benchmarks as a process of its own.
import { fork } from 'node:child_process';
import { createServer } from 'node:http';
import { buffer } from 'node:stream/consumers';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import {
  decodeInferRequest,
  encodeInferResponse,
  findTensor,
  HEADER_LENGTH_FIELD,
} from '../dist/formats/open-inference-binary.js';

const PROGRAM = fileURLToPath(import.meta.url);
const MODEL = 'waiting';
const CONTEXT_TOKENS = 4;
const CONTEXT_WIDTH = 16;

const METADATA = {
  name: MODEL,
  versions: ['1'],
  platform: 'none',
  inputs: [
    { name: 'images', datatype: 'BYTES', shape: [-1] },
    { name: 'class_names', datatype: 'BYTES', shape: [-1] },
    { name: 'context', datatype: 'FP32', shape: [-1, CONTEXT_TOKENS, CONTEXT_WIDTH] },
    { name: 'template', datatype: 'BYTES', shape: [-1] },
  ],
  outputs: [{ name: 'logits', datatype: 'FP32', shape: [-1, -1, -1] }],
  parameters: {
    prompt: {
      space: 'soft',
      context_tokens: CONTEXT_TOKENS,
      context_width: CONTEXT_WIDTH,
      initial_context: Buffer.alloc(CONTEXT_TOKENS * CONTEXT_WIDTH * 4).toString('base64'),
      template: 'a photo of a {}',
    },
    image_references: 'sha256',
    idempotency_header: 'idempotency-key',
    idempotency_window_s: 86400,
    max_images_per_request: 1024,
    max_prompts_per_request: 256,
    max_classes_per_request: 4096,
  },
};

/** @returns {Promise<{ url: string, model: string, close(): Promise<void> }>} the provider, in a process of its own */
export async function startWaitingProvider(latencyMs) {
  const child = fork(PROGRAM, [String(latencyMs)], { stdio: ['ignore', 'inherit', 'inherit', 'ipc'] });
  const exited = new Promise((resolve) => child.once('exit', resolve));
  const url = await new Promise((resolve) => child.once('message', resolve));
  return {
    url,
    model: MODEL,
    async close() {
      child.disconnect();
      await exited;
    },
  };
}

/** Numbers that change smoothly with the prompt and differ by image and class. */
function answerTo(body, headerLength) {
  const { inputs, id } = decodeInferRequest(body, headerLength);
  const images = findTensor(inputs, 'images', 'BYTES').shape[0];
  const classes = findTensor(inputs, 'class_names', 'BYTES').shape[0];
  const context = findTensor(inputs, 'context', 'FP32');
  const prompts = context?.shape[0] ?? findTensor(inputs, 'template', 'BYTES').shape[0];
  const size = CONTEXT_TOKENS * CONTEXT_WIDTH;
  const data = new Float32Array(prompts * images * classes);
  for (let p = 0, at = 0; p < prompts; p++) {
    for (let n = 0; n < images; n++) {
      for (let c = 0; c < classes; c++) {
        data[at++] = 3 * Math.sin(n * classes + c + (context?.data[p * size + ((n + c) % size)] ?? 0));
      }
    }
  }
  const logits = { name: 'logits', datatype: 'FP32', shape: [prompts, images, classes], data };
  return encodeInferResponse({ modelName: MODEL, modelVersion: '1', id, outputs: [logits] }, () => true);
}

if (process.argv[1] === PROGRAM) {
  const latencyMs = Number(process.argv[2]);
  const server = createServer(async (request, response) => {
    if (request.method === 'GET') {
      response.setHeader('content-type', 'application/json');
      response.end(JSON.stringify(request.url.startsWith('/v2/models') ? METADATA : { name: MODEL, ready: true }));
      return;
    }
    const from = performance.now();
    const answer = answerTo(await buffer(request), request.headers[HEADER_LENGTH_FIELD]);
    await sleep(latencyMs - (performance.now() - from));
    response.writeHead(200, { ...answer.headers, 'content-length': answer.body.byteLength });
    response.end(answer.body);
  });
  server.keepAliveTimeout = 60_000;
  server.listen(0, '127.0.0.1', () => process.send(`http://127.0.0.1:${server.address().port}`));
  process.once('disconnect', () => {
    server.close();
    server.closeAllConnections();
  });
}
