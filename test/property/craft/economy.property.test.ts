import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { stratifiedFolds } from '../../../src/craft/economy/folds.js';
import { HeadFit, partOf } from '../../../src/craft/economy/head-fit.js';
import { chooseHead, fitHead, type LabelledViews } from '../../../src/craft/economy/head-search.js';
import { minimise } from '../../../src/craft/economy/lbfgs.js';
import { type HeadInputs, noHead, refineAnswers } from '../../../src/craft/economy/linear-head.js';
import { averageWeights } from '../../../src/craft/economy/model-average.js';
import { principalAxes } from '../../../src/craft/economy/principal-axes.js';
import { simdArithmetic } from '../../../src/craft/economy/simd-arithmetic.js';
import { Random } from '../../../src/craft/random.js';
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

  it('a head along the axes says of images held out what it says on the answers', async () => {
    const part = fc.record({
      views: fc.constantFrom('first' as const, 'all' as const),
      transforms: fc.constantFrom('first' as const, 'joint' as const, 'apart' as const),
      labels: fc.constantFrom('all' as const, 'classes' as const),
    });
    const property = fc.asyncProperty(data, part, seeds, async (views, fitPart, seed) => {
      const { classCount, labels } = views;
      if (views.inputs.kind === 'embedding') fitPart.labels = 'all';
      const counts = Uint8Array.from(labels, (_, image) => (image % 3 === 1 ? 0 : 1));
      const heads = new HeadFit(views, fitPart, counts, simdArithmetic);
      const parameters = Random.stream(seed, 'parameters').fillNormal(new Float64Array(heads.parameterCount));
      const residuals = await heads.residuals(parameters);
      const empty = noHead(views.inputs, classCount);
      const sums = {
        weight: new Float64Array(empty.weight.length),
        bias: new Float64Array(classCount),
        shares: new Float64Array(views.inputs.transforms),
      };
      heads.addTo(sums, parameters, 1);
      heads.dispose();
      const own = partOf(views, fitPart);
      expect([...sums.shares]).toEqual(
        Array.from(sums.shares, (_, t) => (t < own.inputs.transforms ? Math.fround(1 / own.inputs.transforms) : 0)),
      );
      const zero = {
        weight: sums.weight as never,
        bias: sums.bias as never,
        shares: new Float32Array(views.inputs.transforms),
      };
      // Without the shares of the logits: only what the head adds, in double precision.
      const added = refineAnswers({ ...empty, ...zero }, views.views[0]);
      const held = [...counts.keys()].filter((image) => counts[image] === 0);
      for (const [at, image] of held.entries()) {
        for (let c = 0; c < classCount; c++) {
          const [along, onAnswers] = [residuals[at * classCount + c], added[image * classCount + c]];
          expect(Math.abs(along - onAnswers)).toBeLessThan(2e-3 * (1 + Math.abs(along)));
        }
      }
    });
    await fc.assert(property, SETTINGS);
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
