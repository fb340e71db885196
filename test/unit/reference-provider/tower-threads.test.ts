import type { Worker } from 'node:worker_threads';
import { afterEach, beforeAll, beforeEach, expect, it } from 'vitest';
import { type ModelFiles, readModelFiles } from '../../../src/reference-provider/model-files.js';
import type { TextRun } from '../../../src/reference-provider/tower-run.js';
import { TowerThreads } from '../../../src/reference-provider/tower-threads.js';
import { MODEL_DIRECTORY } from './example-images.js';

let files: ModelFiles;
let towers: TowerThreads;

beforeAll(async () => {
  files = await readModelFiles(MODEL_DIRECTORY);
});

beforeEach(async () => {
  towers = await TowerThreads.open(files, 2);
});

afterEach(() => towers.close());

function textRun(text: string, copies = 1): TextRun {
  const { ids, endIndex } = files.tokenizer.encode(text);
  const length = endIndex + 1;
  const row = ids.subarray(0, length);
  return {
    tower: 'text',
    ids: Int32Array.from({ length: copies * length }, (_, i) => row[i % length]),
    ends: new Int32Array(copies).fill(endIndex),
    length,
  };
}

const workers = () => (towers as unknown as { threads: { worker: Worker }[] }).threads.map(({ worker }) => worker);

it('answers each of many runs with its own features, of length 1', async () => {
  const texts = Array.from({ length: 40 }, (_, i) => `a photo of ${i}.`);
  const together = await Promise.all(texts.map((text) => towers.run(textRun(text))));
  for (const [i, text] of texts.entries()) expect(await towers.run(textRun(text))).toEqual(together[i]);
  expect(new Set(together.map((features) => features.join())).size).toBe(texts.length);
  const norm = together[0].reduce((sum, value) => sum + value * value, 0);
  expect(norm).toBeCloseTo(1, 5);
});

it('puts the context in the place of the tokens after the first', async () => {
  const { width } = files.config.text;
  const { ids } = files.tokenizer.encode('a photo of a cat.');
  const context = new Float32Array(4 * width);
  for (let i = 0; i < 4; i++) {
    context.set(files.tokenEmbedding.subarray(ids[i + 1] * width, (ids[i + 1] + 1) * width), i * width);
  }
  const same = await towers.run({ ...textRun('the icon of the cat.', 3), context });
  const one = await towers.run(textRun('a photo of a cat.'));
  for (let row = 0; row < 3; row++) expect(same.slice(row * 128, (row + 1) * 128)).toEqual(one);
});

it('fails a run that the model refuses, and no other', async () => {
  const wrong: TextRun = { ...textRun('a cat'), ends: Int32Array.of(1, 2) };
  const [refused, served] = await Promise.allSettled([towers.run(wrong), towers.run(textRun('a cat'))]);
  expect(refused.status).toBe('rejected');
  expect(served.status).toBe('fulfilled');
});

it('replaces a thread that ends', async () => {
  const lost = workers();
  // What they cannot read breaks them, before what they are sent next: to be terminated within a run would end this process.
  for (const worker of lost) worker.postMessage({});
  const pending = Promise.allSettled([towers.run(textRun('a cat', 64)), towers.run(textRun('a dog', 64))]);
  for (const { status } of await pending) expect(status).toBe('rejected');
  expect(await towers.run(textRun('a cat'))).toHaveLength(128);
  expect(workers().some((worker) => lost.includes(worker))).toBe(false);
});

it('refuses what comes after it was closed', async () => {
  const pending = towers.run(textRun('a cat', 64)).catch((error: Error) => error);
  await towers.close();
  expect(await pending).toBeInstanceOf(Error);
  await expect(towers.run(textRun('a cat'))).rejects.toThrow('closed');
});

it('says that a model cannot be opened', async () => {
  await expect(TowerThreads.open({ ...files, textPath: 'no-such-file.onnx' }, 1)).rejects.toThrow('no-such-file');
});
