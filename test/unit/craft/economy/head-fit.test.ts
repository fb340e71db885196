import { describe, expect, it } from 'vitest';
import type { HeadArithmetic } from '../../../../src/craft/economy/arithmetic.js';
import type { LabelledViews } from '../../../../src/craft/economy/fit-inputs.js';
import { HeadFit, partOf } from '../../../../src/craft/economy/head-fit.js';
import type { FitPart } from '../../../../src/craft/economy/head-grid.js';
import { crossEntropies } from '../../../../src/craft/economy/held-out.js';
import { type HeadInputs, noHead, refineAnswers } from '../../../../src/craft/economy/linear-head.js';
import { simdArithmetic } from '../../../../src/craft/economy/simd-arithmetic.js';
import { Random } from '../../../../src/craft/random.js';
import { labelledViews, labelsOf, reference } from './views.js';

const PLAIN: FitPart = { views: 'first', transforms: 'first', labels: 'all' };
const SETTING = { power: 0.75, strength: 3, biasStrength: 1 };

const SCORES: HeadInputs = { kind: 'scores', probes: 5, transforms: 1 };

/** The fit along the axes, as a head on the answers themselves. */
async function fitted(data: LabelledViews, part: FitPart, counts: Uint8Array, setting = SETTING, tolerance = 1e-6) {
  const heads = new HeadFit(data, part, counts, simdArithmetic);
  const parameters = new Float64Array(heads.parameterCount);
  await heads.minimise(parameters, setting, tolerance);
  const residuals = await heads.residuals(parameters);
  const empty = noHead(data.inputs, data.classCount);
  const sums = {
    weight: new Float64Array(empty.weight.length),
    bias: new Float64Array(data.classCount),
    shares: new Float64Array(data.inputs.transforms),
  };
  heads.addTo(sums, parameters, 1);
  heads.dispose();
  const head = {
    ...empty,
    weight: Float32Array.from(sums.weight),
    bias: Float32Array.from(sums.bias),
    shares: Float32Array.from(sums.shares),
  };
  return { head, residuals, sums };
}

describe('HeadFit', () => {
  it.each(reference.settings.map((setting) => [setting.p, setting.tau, setting] as const))(
    'is the fit of the reference with power %d and strength %d',
    async (p, tau, { A, c, objective }) => {
      const { N, L, C, x, s, y } = reference;
      // Logits that are no part of the inputs: as those of a provider that embeds.
      const rows = Float32Array.from(x.flatMap((own, i) => [...s[i], ...own]));
      const data: LabelledViews = {
        inputs: { kind: 'embedding', width: L, transforms: 1 },
        classCount: C,
        labels: Int32Array.from(y),
        views: [[rows]],
      };
      const counts = new Uint8Array(N).fill(1);
      const setting = { power: p, strength: tau, biasStrength: 1 };
      const { sums, head } = await fitted(data, PLAIN, counts, setting);
      for (const [j, row] of A.entries()) {
        for (const [k, value] of row.entries()) expect(Math.abs(sums.weight[j * C + k] - value)).toBeLessThan(2e-3);
      }
      for (const [k, value] of c.entries()) expect(Math.abs(sums.bias[k] - value)).toBeLessThan(2e-3);
      const losses = crossEntropies(refineAnswers(head, [rows]), data.labels, C);
      expect(losses.reduce((all, loss) => all + loss, 0)).toBeLessThan(objective);
    },
  );

  const parts = (['first', 'all'] as const).flatMap((views) =>
    (['first', 'joint', 'apart'] as const).flatMap((transforms) =>
      (['all', 'classes'] as const).map((labels) => ({ views, transforms, labels })),
    ),
  );

  it.each(parts)(
    'along the axes says what it says on the answers: $views views, $transforms, $labels',
    async (part) => {
      const inputs = { ...SCORES, transforms: 3 };
      const data = labelledViews({ classCount: 4, labels: labelsOf(40, 4), inputs, views: 2 });
      const counts = Uint8Array.from({ length: 40 }, (_, image) => (image % 5 === 0 ? 0 : 1));
      const { head, residuals } = await fitted(data, part, counts);
      const refined = refineAnswers(head, data.views[0]);
      const own = partOf(data, part);
      const blackBox = refineAnswers(
        { ...noHead(own.inputs, 4), shares: new Float32Array(own.inputs.transforms).fill(1 / own.inputs.transforms) },
        own.views[0],
      );
      for (let held = 0; held < 8; held++) {
        for (let c = 0; c < 4; c++) {
          const at = held * 5 * 4 + c;
          expect(Math.abs(refined[at] - blackBox[at] - residuals[held * 4 + c])).toBeLessThan(2e-4);
        }
      }
    },
  );

  it.each([SCORES, { kind: 'embedding', width: 7, transforms: 1 } as const])(
    'fits inputs of kind $kind',
    async (inputs) => {
      const data = labelledViews({ classCount: 3, labels: labelsOf(30, 3), inputs });
      const counts = new Uint8Array(30).fill(1);
      const { head } = await fitted(data, PLAIN, counts);
      const mean = (logits: Float32Array) => crossEntropies(logits, data.labels, 3).reduce((a, b) => a + b) / 30;
      const before = mean(refineAnswers(noHead(inputs, 3), data.views[0]));
      expect(mean(refineAnswers(head, data.views[0]))).toBeLessThan(before / 3);
    },
  );

  it('asks for the gradient that finite differences have', async () => {
    const data = labelledViews({ classCount: 3, labels: labelsOf(12, 3), inputs: SCORES });
    let regression: ReturnType<HeadArithmetic['regression']> | undefined;
    const arithmetic: HeadArithmetic = {
      regression: (problem) => {
        regression = simdArithmetic.regression(problem);
        return regression;
      },
    };
    const heads = new HeadFit(data, PLAIN, new Uint8Array(12).fill(1), arithmetic);
    const random = Random.stream(1, 'point');
    const point = random.fillNormal(new Float64Array(heads.parameterCount), 0.3);
    const gradient = new Float64Array(point.length);
    const other = new Float64Array(point.length);
    await regression?.lossAndGradient(point, gradient);
    for (const at of [0, 5, point.length - 1]) {
      const loss = async (by: number) => regression?.lossAndGradient(point.with(at, point[at] + by), other) as number;
      expect(((await loss(0.01)) - (await loss(-0.01))) / 0.02).toBeCloseTo(gradient[at], 2);
    }
    heads.dispose();
  });

  it('leaves the logit of a class without images as it is', async () => {
    const data = labelledViews({ classCount: 4, labels: labelsOf(30, 3), inputs: SCORES });
    const { head } = await fitted(data, PLAIN, new Uint8Array(30).fill(1));
    for (let j = 0; j < 9; j++) expect(head.weight[j * 4 + 3]).toBeCloseTo(0, 9);
    expect(head.bias[3]).toBeCloseTo(0, 9);
  });

  it.each([
    ['huge logits', (value: number) => value * 1e4],
    ['floors of log-probabilities', (value: number, at: number) => (at % 3 === 0 ? -1e6 : value)],
    ['far from zero', (value: number) => value - 1e7],
    ['less likely than what is left out', (value: number) => value - 1e10],
    ['tiny differences', (value: number) => value * 1e-20],
    ['no differences', () => -3.3],
  ])('stays finite with %s', async (_, change) => {
    const data = labelledViews({ classCount: 4, labels: labelsOf(30, 3), inputs: SCORES });
    data.views[0][0] = data.views[0][0].map(change);
    const { head } = await fitted(data, PLAIN, new Uint8Array(30).fill(1), SETTING, 1e-3);
    expect(head.weight.every(Number.isFinite)).toBe(true);
    expect(head.bias.every(Number.isFinite)).toBe(true);
    const refined = refineAnswers(head, data.views[0]);
    const before = crossEntropies(refineAnswers(noHead(SCORES, 4), data.views[0]), data.labels, 4);
    const after = crossEntropies(refined, data.labels, 4);
    const sum = (losses: Float64Array) => losses.reduce((all, loss) => all + loss, 0);
    expect(sum(after)).toBeLessThanOrEqual(sum(before) * (1 + 1e-6));
  });

  it('does not lose transforms whose first one tells nothing', async () => {
    const data = labelledViews({ classCount: 3, labels: labelsOf(30, 3), inputs: { ...SCORES, transforms: 2 } });
    data.views[0][0].fill(0.7);
    const { head } = await fitted(data, { ...PLAIN, transforms: 'apart' }, new Uint8Array(30).fill(1));
    const [first, second] = [head.weight.subarray(0, 24), head.weight.subarray(24)];
    expect(Math.max(...first.map(Math.abs))).toBe(0);
    expect(Math.max(...second.map(Math.abs))).toBeGreaterThan(0.05);
  });

  it('counts an image with four views as one without', async () => {
    const data = labelledViews({ classCount: 3, labels: labelsOf(12, 3), inputs: SCORES });
    const counts = new Uint8Array(12).fill(1);
    const once = await fitted(data, PLAIN, counts);
    const fourfold = { ...data, views: new Array(4).fill(data.views[0]) };
    const repeated = await fitted(fourfold, { ...PLAIN, views: 'all' }, counts);
    for (let at = 0; at < once.head.weight.length; at++) {
      expect(Math.abs(once.head.weight[at] - repeated.head.weight[at])).toBeLessThan(1e-3);
    }
  });
});
