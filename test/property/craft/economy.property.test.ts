import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { CholeskyFactor } from '../../../src/craft/economy/cholesky.js';
import { type EconomyHead, refineAnswers } from '../../../src/craft/economy/economy-head.js';
import type { LabelledViews } from '../../../src/craft/economy/fit-inputs.js';
import { stratifiedFolds } from '../../../src/craft/economy/folds.js';
import { sharesOf } from '../../../src/craft/economy/head-fit.js';
import type { FitPart } from '../../../src/craft/economy/head-grid.js';
import type { HeadInputs } from '../../../src/craft/economy/head-inputs.js';
import { chooseHead, fitHead } from '../../../src/craft/economy/head-search.js';
import { minimise } from '../../../src/craft/economy/lbfgs.js';
import { averageWeights } from '../../../src/craft/economy/model-average.js';
import { principalAxes } from '../../../src/craft/economy/principal-axes.js';
import { simdArithmetic } from '../../../src/craft/economy/simd-arithmetic.js';
import { Landmarks } from '../../../src/craft/economy/similarity.js';
import { Random } from '../../../src/craft/random.js';
import { fitted } from '../../unit/craft/economy/fitted.js';
import { labelledViews } from '../../unit/craft/economy/views.js';

const SETTINGS = { seed: 20260601, numRuns: 60 };
const seeds = fc.nat({ max: 2 ** 31 });

const inputs: fc.Arbitrary<HeadInputs> = fc.oneof(
  fc.record({
    kind: fc.constant('scores' as const),
    transforms: fc.integer({ min: 1, max: 3 }),
    probes: fc.nat({ max: 6 }),
  }),
  fc.record({
    kind: fc.constant('embedding' as const),
    transforms: fc.integer({ min: 1, max: 3 }),
    width: fc.nat({ max: 9 }),
  }),
);

/** Any labels, so also classes without images, and any spread of the answers. */
const data: fc.Arbitrary<LabelledViews> = fc
  .record({
    seed: seeds,
    classCount: fc.integer({ min: 2, max: 5 }),
    images: fc.integer({ min: 1, max: 18 }),
    inputs,
    views: fc.integer({ min: 1, max: 2 }),
    scale: fc.constantFrom(0, 1e-6, 1, 1e4),
    offset: fc.constantFrom(0, -1e6),
    apart: fc.constantFrom(0, 1, 3),
  })
  .map(({ seed, images, scale, offset, ...shape }) => {
    const random = Random.stream(seed, 'labels');
    const labels = Int32Array.from({ length: images }, () => random.integer(shape.classCount));
    const made = labelledViews({ ...shape, labels }, seed);
    return {
      ...made,
      views: made.views.map((answers) => answers.map((rows) => rows.map((value) => value * scale + offset))),
    };
  });

describe('properties of the economy head', () => {
  it('L-BFGS finds the minimum of every convex quadratic', async () => {
    const property = fc.asyncProperty(
      fc.array(fc.tuple(fc.double({ min: -3, max: 3, noNaN: true }), fc.double({ min: -50, max: 50, noNaN: true })), {
        minLength: 1,
        maxLength: 12,
      }),
      async (axes) => {
        const point = new Float64Array(axes.length);
        const tolerance = 1e-7;
        await minimise(
          (at, gradient) => {
            let value = 0;
            for (const [i, [exponent, minimum]] of axes.entries()) {
              gradient[i] = 10 ** exponent * (at[i] - minimum);
              value += (gradient[i] * (at[i] - minimum)) / 2;
            }
            return value;
          },
          point,
          { tolerance, mostIterations: 2000 },
        );
        for (const [i, [exponent, minimum]] of axes.entries()) {
          expect(10 ** exponent * Math.abs(point[i] - minimum)).toBeLessThanOrEqual(1e-4);
        }
      },
    );
    await fc.assert(property, SETTINGS);
  });

  it('principal axes are orthonormal and show the whole variance, whichever way they are found', () => {
    const property = fc.property(
      seeds,
      fc.integer({ min: 1, max: 20 }),
      fc.integer({ min: 1, max: 20 }),
      (seed, count, width) => {
        const values = Random.stream(seed, 'rows').fillNormal(new Float64Array(count * width));
        const read = (row: number, into: Float64Array) => into.set(values.subarray(row * width, (row + 1) * width));
        const { mean, variances, axes } = principalAxes({ count, width, read });
        let total = 0;
        for (let at = 0; at < values.length; at++) total += (values[at] - mean[at % width]) ** 2 / count;
        expect(variances.reduce((sum, variance) => sum + variance, 0)).toBeCloseTo(total, 4);
        for (let a = 0; a < variances.length; a++) {
          let dot = 0;
          for (let j = 0; j < width; j++) dot += axes[j * variances.length] * axes[j * variances.length + a];
          expect(dot).toBeCloseTo(a === 0 ? 1 : 0, 5);
        }
      },
    );
    fc.assert(property, { ...SETTINGS, numRuns: 200 });
  });

  it('folds are of equal size, of all images and of each class', () => {
    const labels = fc.array(fc.nat({ max: 6 }), { maxLength: 60 });
    const property = fc.property(seeds, labels, fc.integer({ min: 1, max: 6 }), (seed, list, folds) => {
      const foldOf = stratifiedFolds(Int32Array.from(list), 7, folds, Random.stream(seed, 'folds'));
      const spread = (kept: (label: number) => boolean) => {
        const counts = new Array<number>(folds).fill(0);
        for (const [image, fold] of foldOf.entries()) if (kept(list[image])) counts[fold]++;
        return Math.max(...counts) - Math.min(...counts);
      };
      expect(spread(() => true)).toBeLessThanOrEqual(1);
      for (let label = 0; label < 7; label++) expect(spread((own) => own === label)).toBeLessThanOrEqual(1);
    });
    fc.assert(property, { ...SETTINGS, numRuns: 200 });
  });

  it('weights of models add up to 1, and more of a loss never means more weight', () => {
    const losses = fc.array(fc.double({ min: 0, max: 30, noNaN: true }), { minLength: 1, maxLength: 20 });
    const property = fc.property(seeds, losses, fc.double({ min: 0, max: 5, noNaN: true }), (seed, own, more) => {
      const better = Float64Array.from(own);
      const worse = better.map((loss) => loss + more);
      const weights = averageWeights([worse, better], [0.5, 0.5], Random.stream(seed, 'weights'));
      expect(weights[0] + weights[1]).toBeCloseTo(1, 9);
      expect(weights[1]).toBeGreaterThanOrEqual(weights[0] - 1e-12);
    });
    fc.assert(property, { ...SETTINGS, numRuns: 200 });
  });

  it('likenesses of any points have a factor, whose product they are', () => {
    const property = fc.property(
      seeds,
      fc.integer({ min: 1, max: 24 }),
      fc.nat({ max: 6 }),
      fc.constantFrom(0, 1e-9, 0.1, 1, 30),
      (seed, count, width, scale) => {
        const points = Random.stream(seed, 'points').fillNormal(new Float64Array(count * width), scale);
        const landmarks = new Landmarks(points, width, count);
        const likenesses = new Float64Array(count * count);
        for (let i = 0; i < count; i++) {
          landmarks.compare(landmarks.point(i), 1, likenesses.subarray(i * count, (i + 1) * count));
          expect(likenesses[i * count + i]).toBe(1);
        }
        const factor = new CholeskyFactor(likenesses, count);
        for (let i = 0; i < count; i++) {
          for (let j = 0; j < count; j++) {
            expect(likenesses[i * count + j]).toBe(likenesses[j * count + i]);
            const product = factor.row(i).reduce((sum, value, k) => sum + value * factor.row(j)[k], 0);
            expect(Math.abs(product - likenesses[i * count + j])).toBeLessThan(2e-6);
          }
        }
      },
    );
    fc.assert(property, { ...SETTINGS, numRuns: 200 });
  });

  const parts: fc.Arbitrary<FitPart> = fc.oneof(
    fc.record({
      kind: fc.constant('linear' as const),
      views: fc.constantFrom('first' as const, 'all' as const),
      transforms: fc.constantFrom('first' as const, 'joint' as const),
      power: fc.constantFrom(0, 0.75, 1),
    }),
    fc.record({
      kind: fc.constant('kernel' as const),
      views: fc.constantFrom('first' as const, 'all' as const),
      transforms: fc.constantFrom('first' as const, 'mean' as const, 'apart' as const),
      power: fc.constantFrom(0, 0.75, 1),
    }),
  );

  /** What the numbers of a head that are added up amount to, at most: they are rounded to single precision. */
  function amount(head: EconomyHead, answers: LabelledViews['views'][number]): number {
    const { classCount, most } = {
      classCount: head.bias.length,
      most: Math.max(0, ...answers.flatMap((rows) => [...rows]).map(Math.abs)),
    };
    const columnOf = (values: Float32Array, c: number) => {
      return values.reduce((sum, value, at) => sum + (at % classCount === c ? Math.abs(value) : 0), 0);
    };
    const columns = Array.from({ length: classCount }, (_, c) => {
      const terms = head.kind === 'kernel' ? head.terms : [];
      const likenesses = terms.reduce((sum, { coefficients }) => sum + columnOf(coefficients, c), 0);
      return 2 * most * columnOf(head.weight, c) + Math.abs(head.bias[c]) + likenesses;
    });
    return Math.max(...columns);
  }

  it('a head in what it is fitted to says of images held out what it says on the answers', async () => {
    const property = fc.asyncProperty(data, parts, seeds, async (views, part, seed) => {
      const { classCount, labels, inputs } = views;
      const counted = [...labels.keys()].filter((image) => image % 3 !== 1);
      const held = [...labels.keys()].filter((image) => image % 3 === 1);
      const random = Random.stream(seed, 'parameters');
      const { head, residuals } = await fitted(views, part, counted, {
        parameters: (count) => random.fillNormal(new Float64Array(count)),
      });
      expect([...head.shares]).toEqual([...sharesOf(part, inputs.transforms)]);
      // Without the shares of the logits: only what the head adds.
      const added = refineAnswers({ ...head, shares: new Float32Array(inputs.transforms) }, views.views[0]);
      const rounding = 2 ** -23 * amount(head, views.views[0]);
      for (const [row, image] of held.entries()) {
        for (let c = 0; c < classCount; c++) {
          const [along, onAnswers] = [residuals[row * classCount + c], added[image * classCount + c]];
          expect(Math.abs(along - onAnswers)).toBeLessThan(2e-3 * (1 + Math.abs(along)) + rounding);
        }
      }
    });
    await fc.assert(property, { ...SETTINGS, numRuns: 150 });
  }, 60_000);

  it('by cross-validation nothing is chosen that is worse than nothing, whatever the answers; twice the same', async () => {
    const property = fc.asyncProperty(data, seeds, async (views, seed) => {
      const choose = () => chooseHead(views, Random.stream(seed, 'folds'), simdArithmetic);
      const choice = await choose();
      expect(choice.heldOut.loss).toBeLessThanOrEqual(choice.blackBox.loss);
      const head = await fitHead(views, choice, simdArithmetic);
      const refined = refineAnswers(head, views.views[0]);
      expect(refined.every(Number.isFinite)).toBe(true);
      expect(head.shares.reduce((sum, share) => sum + share, 0)).toBeCloseTo(1, 5);
      const again = await choose();
      expect(again).toEqual(choice);
      expect(await fitHead(views, again, simdArithmetic)).toEqual(head);
    });
    await fc.assert(property, { ...SETTINGS, numRuns: 100 });
  }, 120_000);
});
