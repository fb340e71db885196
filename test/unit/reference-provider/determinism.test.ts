import { afterEach, beforeAll, describe, expect, it } from 'vitest';
import { type EmbeddingInput, EmojiClip } from '../../../src/reference-provider/emoji-clip.js';
import { readImageInput } from '../../../src/reference-provider/image-input.js';
import type { Prompt } from '../../../src/reference-provider/text-features.js';
import { loadExample, MODEL_DIRECTORY } from './example-images.js';

/** The same question must be answered with the same bits: a recomputed answer stands in for one that was lost. */

const opened: EmojiClip[] = [];
let images: Uint8Array[];
let classNames: string[];
let expected: Buffer;

const prompts = (model: EmojiClip): Prompt[] => {
  const context = model.initialContext();
  const shifted = [1, 2, 3].map((p) => ({ context: context.map((value, i) => value + 0.1 * Math.sin(p * i)) }));
  return [{ template: 'a photo of a {}.' }, { template: 'a very long template of many words about {}' }, ...shifted];
};

async function freshModel(threads?: number): Promise<EmojiClip> {
  const model = await EmojiClip.load({ modelDirectory: MODEL_DIRECTORY, threads });
  opened.push(model);
  return model;
}

async function bits(model: EmojiClip, of: Uint8Array[], names: string[], asked: Prompt[]): Promise<Buffer> {
  const logits = await model.score({ images: of.map(readImageInput), classNames: names, prompts: asked });
  return Buffer.from(logits.buffer, logits.byteOffset, logits.byteLength);
}

const whole = (model: EmojiClip) => bits(model, images, classNames, prompts(model));

beforeAll(async () => {
  const data = await loadExample('fluent-flat-subgroups');
  images = [...data.images.values()].slice(0, 37);
  // More than one run of the text tower takes.
  classNames = ['plain', 'shiny', 'old', 'small'].flatMap((how) => data.classes.map(({ name }) => `${how} ${name}`));
  expected = await whole(await freshModel());
});

afterEach(async () => {
  for (const model of opened.splice(0)) await model.close();
});

it('gives distinct logits to each prompt, so that comparing them means something', () => {
  const size = expected.byteLength / 5;
  const parts = [0, 1, 2, 3, 4].map((p) => expected.subarray(p * size, (p + 1) * size).toString('base64'));
  expect(new Set(parts).size).toBe(5);
});

it.each([1, 2])('answers with the same bits on a fresh model, on %d threads', async (threads) => {
  expect((await whole(await freshModel(threads))).equals(expected)).toBe(true);
});

it('answers with the same bits whichever part was remembered from other groupings', async () => {
  for (const [step, count] of [
    [3, 1],
    [11, 8],
    [5, 4],
  ]) {
    const model = await freshModel();
    for (let i = 0; i < images.length; i += step) {
      const some = images.slice(i, i + count).reverse();
      await bits(model, some, classNames, prompts(model).slice(i % 4, (i % 4) + 2));
      await bits(model, some, classNames.slice(i, i + 9), prompts(model));
    }
    expect((await whole(model)).equals(expected)).toBe(true);
  }
});

it('answers with the same bits when overlapping questions are asked at once', async () => {
  const model = await freshModel();
  const asked = prompts(model);
  const [first, , , last] = await Promise.all([
    whole(model),
    bits(model, [...images].reverse(), [...classNames].reverse(), [...asked].reverse()),
    bits(model, images.slice(9, 20), classNames, asked.slice(1, 3)),
    whole(model),
  ]);
  expect(first.equals(expected)).toBe(true);
  expect(last.equals(expected)).toBe(true);
});

describe('embeddings', () => {
  let inputs: EmbeddingInput[];
  let expected: Float32Array;
  beforeAll(async () => {
    const texts = classNames.flatMap((name) => [`a photo of a ${name}.`, name, `${name}, seen from above on a desk`]);
    inputs = [...texts.map((text) => ({ text })), ...images.map((image) => ({ image: readImageInput(image, 0) }))];
    expected = await (await freshModel()).embed(inputs);
  });

  const rowsOf = (rows: Float32Array) =>
    Array.from({ length: rows.length / 128 }, (_, i) => rows.subarray(i * 128, (i + 1) * 128));

  it.each([1, 2])('have the same bits on a fresh model, on %d threads', async (threads) => {
    expect(await (await freshModel(threads)).embed(inputs)).toEqual(expected);
  });

  it.each([1, 3, 16, 17, 40])('have the same bits when they are asked for %d at a time, backwards', async (count) => {
    const model = await freshModel();
    const backwards = [...inputs].reverse();
    const rows: Float32Array[] = [];
    for (let i = 0; i < backwards.length; i += count) {
      rows.push(...rowsOf(await model.embed(backwards.slice(i, i + count))));
    }
    expect(rows.reverse()).toEqual(rowsOf(expected));
  });

  it('have the same bits when overlapping requests come at once', async () => {
    const model = await freshModel();
    const [odd, all, few] = await Promise.all([
      model.embed(inputs.filter((_, i) => i % 2 === 1)),
      model.embed(inputs),
      model.embed([inputs[0], inputs[0], inputs[5]]),
    ]);
    const rows = rowsOf(expected);
    expect(all).toEqual(expected);
    expect(rowsOf(odd)).toEqual(rows.filter((_, i) => i % 2 === 1));
    expect(rowsOf(few)).toEqual([rows[0], rows[0], rows[5]]);
  });

  it('differ, so that comparing them means something', () => {
    const distinct = new Set(rowsOf(expected).map((row) => row.join()));
    expect(distinct.size).toBe(inputs.length);
  });
});
