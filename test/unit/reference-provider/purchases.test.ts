import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { Purchases } from '../../../src/reference-provider/purchases.js';

let directory: string;
let stateFile: string;

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'purchases-'));
  stateFile = join(directory, 'usage.jsonl');
});
afterEach(() => rmSync(directory, { recursive: true }));

const order = (encode: (logits: Float32Array) => string) => ({
  client: 'anonymous',
  idempotencyKey: 'k',
  served: { prompts: 1, images: 1 },
  question: () => 'q',
  compute: async () => Float32Array.of(1, 2) as Float32Array,
  encode,
});

it('has an answer in the file and in the counts before it hands it over', async () => {
  const purchases = new Purchases({ stateFile });
  expect(await purchases.serve(order(String))).toBe('1,2');
  expect(purchases.report().totals.requests).toBe(1);
  expect(JSON.parse(readFileSync(stateFile, 'utf8'))).toMatchObject({ client: 'anonymous', key: 'k' });
});

it('counts no answer that cannot be encoded', async () => {
  const purchases = new Purchases({ stateFile });
  const failing = order(() => {
    throw new RangeError('Invalid string length');
  });
  await expect(purchases.serve(failing)).rejects.toThrow('Invalid string length');
  expect(purchases.report().totals.requests).toBe(0);
  expect(readFileSync(stateFile, 'utf8')).toBe('');
});

it('reads both kinds of purchase back from the file', async () => {
  const purchases = new Purchases({ stateFile });
  await purchases.serve(order(String));
  await purchases.serve({ ...order(String), idempotencyKey: 'e', served: { embedded: { images: 2, texts: 3 } } });
  await purchases.serve({ ...order(String), idempotencyKey: 'e', served: { embedded: { images: 2, texts: 3 } } });
  purchases.close();
  const reopened = new Purchases({ stateFile });
  expect(reopened.report()).toEqual(purchases.report());
  expect(reopened.report().totals).toEqual({
    requests: 2,
    prompt_evaluations: 1,
    image_queries: 3,
    text_embeddings: 3,
  });
  await reopened.serve({ ...order(String), idempotencyKey: 'e', served: { embedded: { images: 2, texts: 3 } } });
  expect(reopened.report().totals.requests).toBe(2);
  reopened.close();
});

it('serves no answer that it cannot write down', async () => {
  const purchases = new Purchases({ stateFile });
  purchases.close();
  await expect(purchases.serve(order(String))).rejects.toThrow('closed');
  await expect(purchases.serve(order(String))).rejects.toThrow('closed');
  expect(purchases.report().totals.requests).toBe(0);
});
