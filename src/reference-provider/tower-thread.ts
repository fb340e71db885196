import { parentPort, workerData } from 'node:worker_threads';
import { type InferenceSession, Tensor } from 'onnxruntime-node';
import { normaliseRows } from './logits.js';
import { openSession } from './onnx-session.js';
import {
  END,
  type TextRun,
  type ThreadStart,
  type TowerAnswer,
  type TowerRequest,
  type TowerRun,
  type TowerSetup,
  type VisionRun,
} from './tower-run.js';

/** The program of a thread of `TowerThreads`: runs the towers, one run after another. */

const setup = workerData as TowerSetup;

let scratch = new Float32Array(0);

/** Prompt embeddings [rows, length, width]; good until the next call. */
function embed({ ids, length, context }: TextRun): Float32Array {
  const { textWidth: width, tokenEmbedding } = setup;
  const size = ids.length * width;
  if (scratch.length < size) scratch = new Float32Array(size);
  const embeddings = scratch.subarray(0, size);
  for (let i = 0; i < ids.length; i++) {
    embeddings.set(tokenEmbedding.subarray(ids[i] * width, (ids[i] + 1) * width), i * width);
  }
  if (context) for (let row = 0; row < ids.length; row += length) embeddings.set(context, (row + 1) * width);
  return embeddings;
}

async function textFeatures(session: InferenceSession, run: TextRun): Promise<Float32Array> {
  const rows = run.ends.length;
  const { text_features } = await session.run({
    prompt_embeddings: new Tensor('float32', embed(run), [rows, run.length, setup.textWidth]),
    end_index: new Tensor('int64', BigInt64Array.from(run.ends, BigInt), [rows]),
  });
  return text_features.data as Float32Array;
}

async function imageFeatures(session: InferenceSession, { pixels }: VisionRun): Promise<Float32Array> {
  const { imageSize: size } = setup;
  const shape = [pixels.length / (3 * size * size), 3, size, size];
  const { image_features } = await session.run({ pixel_values: new Tensor('float32', pixels, shape) });
  return image_features.data as Float32Array;
}

const port = parentPort;
if (port === null) throw new Error('This is the program of a worker thread.');
const messageOf = (error: unknown) => (error instanceof Error ? error.message : String(error));

try {
  const text = await openSession(setup.textPath, 1);
  const vision = await openSession(setup.visionPath, 1);
  const compute = async (run: TowerRun) => {
    // A copy: what the tower returns is not ours to send away.
    const features = Float32Array.from(
      run.tower === 'text' ? await textFeatures(text, run) : await imageFeatures(vision, run),
    );
    normaliseRows(features, setup.embedDimension);
    return features;
  };
  let isEnding = false;
  const answer = async (requests: TowerRequest[]) => {
    const answers: TowerAnswer[] = [];
    const buffers: ArrayBuffer[] = [];
    for (const { id, run } of requests) {
      if (isEnding) return;
      try {
        const features = await compute(run);
        answers.push({ id, features });
        buffers.push(features.buffer);
      } catch (error) {
        answers.push({ id, failure: messageOf(error) });
      }
    }
    port.postMessage(answers, buffers);
  };
  let last = Promise.resolve();
  port.on('message', (message: TowerRequest[] | typeof END) => {
    if (message === END) isEnding = true;
    last = last.then(() => (message === END ? port.close() : answer(message)));
  });
  port.postMessage({} satisfies ThreadStart);
} catch (error) {
  port.postMessage({ failure: messageOf(error) } satisfies ThreadStart);
}
