import fc from 'fast-check';
import { expect, test } from 'vitest';
import { jobRequestSchema } from '../../../src/jobs/job-request.js';
import { takeShots } from '../../../src/jobs/shots.js';

const imagesOf = (counts: number[]) =>
  counts.flatMap((count, classIndex) => Array.from({ length: count }, (_, id) => ({ classIndex, id })));

test('so many of each class are taken, in order, and all of a smaller one', () => {
  const counts = fc.array(fc.integer({ min: 1, max: 30 }), { minLength: 1, maxLength: 8 });
  fc.assert(
    fc.property(counts, fc.integer({ min: 1, max: 40 }), fc.nat(), (sizes, shots, seed) => {
      const images = imagesOf(sizes);
      const chosen = takeShots(images, shots, seed);
      const perClass = sizes.map((_, index) => chosen.filter(({ classIndex }) => classIndex === index).length);
      expect(perClass).toEqual(sizes.map((size) => Math.min(size, shots)));
      expect(chosen).toEqual(images.filter((image) => chosen.includes(image)));
      expect(takeShots(images, shots, seed)).toEqual(chosen);
    }),
  );
});

test('an image is not looked at once for each class', () => {
  let looks = 0;
  const images = Array.from({ length: 2000 }, (_, id) => ({
    get classIndex() {
      looks++;
      return id % 500;
    },
  }));
  expect(takeShots(images, 1, 1)).toHaveLength(500);
  expect(looks).toBeLessThan(5 * images.length);
});

test('every image has its chance, by the seed', () => {
  const images = imagesOf([20, 20]);
  const seen = new Set(Array.from({ length: 100 }, (_, seed) => takeShots(images, 2, seed)).flat());
  expect(seen.size).toBe(40);
});

test('a request without shots is what it was before there were any', () => {
  const request = { model: 'm', training_file: 'f', method: { type: 'craft', craft: { budget: { max_requests: 1 } } } };
  expect(JSON.stringify(jobRequestSchema.parse(request))).not.toContain('shots');
});
