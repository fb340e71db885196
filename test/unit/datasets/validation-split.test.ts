import { createHash } from 'node:crypto';
import { expect, test } from 'vitest';
import { splitValidation } from '../../../src/datasets/validation-split.js';

function images(counts: number[]) {
  return counts.flatMap((count, classIndex) =>
    Array.from({ length: count }, (_, i) => ({
      classIndex,
      sha256: createHash('sha256').update(`${classIndex} ${i}`).digest('hex'),
    })),
  );
}

const perClass = (part: { classIndex: number }[], classes: number) =>
  Array.from({ length: classes }, (_, index) => part.filter(({ classIndex }) => classIndex === index).length);

test('takes the rounded share of each class and leaves each one an image', () => {
  const { train, validation } = splitValidation(images([10, 5, 2, 1]), 0.25, 7);
  expect(perClass(validation, 4)).toEqual([3, 1, 1, 0]);
  expect(perClass(train, 4)).toEqual([7, 4, 1, 1]);
  expect(perClass(splitValidation(images([3, 1]), 0.99, 7).train, 2)).toEqual([1, 1]);
  expect(splitValidation(images([3, 1]), 0, 7).validation).toEqual([]);
});

test('keeps the order and loses nothing', () => {
  const all = images([10, 10]);
  const { train, validation } = splitValidation(all, 0.3, 1);
  expect(new Set([...train, ...validation])).toEqual(new Set(all));
  expect(train).toEqual(all.filter((image) => train.includes(image)));
  expect(validation).toEqual(all.filter((image) => validation.includes(image)));
});

test('depends on the seed, not on the order', () => {
  const all = images([20, 20]);
  const chosen = (list: typeof all, seed: number) =>
    splitValidation(list, 0.5, seed)
      .validation.map(({ sha256 }) => sha256)
      .sort();
  expect(chosen([...all].reverse(), 1)).toEqual(chosen(all, 1));
  expect(chosen(all, 2)).not.toEqual(chosen(all, 1));
});

test('never puts copies of one image on both sides', () => {
  const all = images([6, 6]);
  const doubled = [...all, ...all.map((image) => ({ ...image }))];
  for (let seed = 0; seed < 20; seed++) {
    const { train, validation } = splitValidation(doubled, 0.25, seed);
    const trained = new Set(train.map(({ sha256 }) => sha256));
    expect(validation.filter(({ sha256 }) => trained.has(sha256))).toEqual([]);
    expect(validation.length).toBeGreaterThan(0);
  }
});

test.each([-0.1, 1, Number.NaN])('refuses the share %s', (fraction) => {
  expect(() => splitValidation(images([2]), fraction, 1)).toThrow(RangeError);
});
