import { readFileSync } from 'node:fs';
import { Tensor } from 'onnxruntime-node';
import { beforeAll, describe, expect, it } from 'vitest';
import { normaliseRows } from '../../../src/reference-provider/logits.js';
import { type ModelFiles, readModelFiles } from '../../../src/reference-provider/model-files.js';
import { openSession } from '../../../src/reference-provider/onnx-session.js';
import { ClassList, TextFeatures } from '../../../src/reference-provider/text-features.js';
import { TowerThreads } from '../../../src/reference-provider/tower-threads.js';
import { MODEL_DIRECTORY } from './example-images.js';

interface Check {
  pixel_values: number[];
  pixel_shape: number[];
  image_features: number[][];
  texts: string[];
  token_ids: number[][];
  end_index: number[];
  text_features: number[][];
}

const check: Check = JSON.parse(readFileSync(`${MODEL_DIRECTORY}/check.json`, 'utf8'));
let files: ModelFiles;

beforeAll(async () => {
  files = await readModelFiles(MODEL_DIRECTORY);
});

function largestDifference(a: ArrayLike<number>, b: ArrayLike<number>): number {
  expect(a.length).toBe(b.length);
  return Array.from(a).reduce((max, value, i) => Math.max(max, Math.abs(value - b[i])), 0);
}

describe('tokenizer', () => {
  it('agrees with the original', () => {
    for (const [i, text] of check.texts.entries()) {
      const { ids, endIndex } = files.tokenizer.encode(text);
      expect([...ids]).toEqual(check.token_ids[i]);
      expect(endIndex).toBe(check.end_index[i]);
    }
  });

  it('ignores case and space, and falls back to characters and the unknown token', () => {
    const { tokenizer } = files;
    expect(tokenizer.encode(' A  Photo\tof')).toEqual(tokenizer.encode('a photo of'));
    expect(tokenizer.encode('qxz').ids.slice(1, 4)).toEqual(tokenizer.encode('q x z').ids.slice(1, 4));
    const [, emoji, end] = tokenizer.encode('😀').ids;
    expect([emoji, end]).toEqual([3, 2]);
  });

  it('keeps the first pieces of a long text', () => {
    const { ids, endIndex } = files.tokenizer.encode('a '.repeat(50));
    expect(endIndex).toBe(15);
    expect(ids.length).toBe(16);
    expect(ids[15]).toBe(2);
    expect(files.tokenizer.encode('')).toEqual({ ids: Int32Array.from([1, 2, ...Array(14).fill(0)]), endIndex: 1 });
  });
});

describe('towers', () => {
  it('vision agrees with the original', async () => {
    const session = await openSession(files.visionPath, 1);
    const pixels = new Tensor('float32', Float32Array.from(check.pixel_values), check.pixel_shape);
    const { image_features } = await session.run({ pixel_values: pixels });
    expect(largestDifference(image_features.data as Float32Array, check.image_features.flat())).toBeLessThan(1e-4);
    await session.release();
  });

  it('text agrees with the original, from the text to the normalised features', async () => {
    const towers = await TowerThreads.open(files, 1);
    const features = new TextFeatures(towers, files, 1_000_000);
    const photos = await features.of({ template: 'a photo of a {}.' }, new ClassList(['cat face', 'unicorn']));
    const icons = await features.of({ template: 'an icon of a {}.' }, new ClassList(['red heart', 'unicorn']));
    const expected = Float32Array.from(check.text_features.flat());
    normaliseRows(expected, 128);
    expect(largestDifference(photos, expected.subarray(0, 256))).toBeLessThan(1e-4);
    expect(largestDifference(icons.subarray(0, 128), expected.subarray(256))).toBeLessThan(1e-4);
    await towers.close();
  });
});
