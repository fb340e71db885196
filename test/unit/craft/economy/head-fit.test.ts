import { describe, expect, it } from 'vitest';
import type { HeadArithmetic } from '../../../../src/craft/economy/arithmetic.js';
import { refineAnswers } from '../../../../src/craft/economy/economy-head.js';
import type { LabelledViews } from '../../../../src/craft/economy/fit-inputs.js';
import { HeadFit, sharesOf } from '../../../../src/craft/economy/head-fit.js';
import type { FitPart, LinearPart } from '../../../../src/craft/economy/head-grid.js';
import { type HeadInputs, sharedLogits } from '../../../../src/craft/economy/head-inputs.js';
import { crossEntropies } from '../../../../src/craft/economy/held-out.js';
import { InputAxes } from '../../../../src/craft/economy/input-axes.js';
import { noHead } from '../../../../src/craft/economy/linear-head.js';
import { simdArithmetic } from '../../../../src/craft/economy/simd-arithmetic.js';
import { Random } from '../../../../src/craft/random.js';
import { allBut, fitted } from './fitted.js';
import { labelledViews, labelsOf, reference } from './views.js';

const LINEAR: LinearPart = { kind: 'linear', views: 'first', transforms: 'first', power: 0.75 };
const KERNEL: FitPart = { kind: 'kernel', views: 'first', transforms: 'first', power: 0.75 };
const SETTING = { strength: 3, biasStrength: 1 };

const SCORES: HeadInputs = { kind: 'scores', probes: 5, transforms: 1 };

const allOf = ({ labels }: LabelledViews) => [...labels.keys()];

describe('HeadFit', () => {
  it.each(reference.settings.map((setting) => [setting.p, setting.tau, setting] as const))(
    'is the fit of the reference with power %d and strength %d',
    async (p, tau, { A, c, objective }) => {
      const { L, C, x, s, y } = reference;
      // Logits that are no part of the inputs: as those of a provider that embeds.
      const rows = Float32Array.from(x.flatMap((own, i) => [...s[i], ...own]));
      const data: LabelledViews = {
        inputs: { kind: 'embedding', width: L, transforms: 1 },
        classCount: C,
        labels: Int32Array.from(y),
        views: [[rows]],
      };
      const setting = { strength: tau, biasStrength: 1 };
      const { head } = await fitted(data, { ...LINEAR, power: p }, [...data.labels.keys()], setting);
      for (const [j, row] of A.entries()) {
        for (const [k, value] of row.entries()) expect(Math.abs(head.weight[j * C + k] - value)).toBeLessThan(2e-3);
      }
      for (const [k, value] of c.entries()) expect(Math.abs(head.bias[k] - value)).toBeLessThan(2e-3);
      const losses = crossEntropies(refineAnswers(head, [rows]), data.labels, C);
      expect(losses.reduce((all, loss) => all + loss, 0)).toBeLessThan(objective);
    },
  );

  const parts = (['first', 'all'] as const).flatMap((views): FitPart[] => [
    { ...LINEAR, views },
    { ...LINEAR, views, transforms: 'joint' },
    { ...KERNEL, views, transforms: 'first' },
    { ...KERNEL, views, transforms: 'mean' },
    { ...KERNEL, views, transforms: 'apart' },
  ]);

  describe.each([SCORES, { kind: 'embedding', width: 6, transforms: 1 } as const])('of kind $kind', (kind) => {
    it.each(parts)(
      'is in what it is fitted to what it is on the answers: $kind, $views views, $transforms',
      async (part) => {
        const inputs = { ...kind, transforms: 3 };
        const data = labelledViews({ classCount: 4, labels: labelsOf(40, 4), inputs, views: 2 });
        const { counted, held } = allBut(5, 40);
        const { head, residuals } = await fitted(data, part, counted, { strength: 0.1, biasStrength: 0.1 });
        expect(head.kind).toBe(part.kind);
        const refined = refineAnswers(head, data.views[0]);
        const blackBox = sharedLogits(inputs, data.views[0], sharesOf(part, 3), 4);
        expect(residuals).toHaveLength(held.length * 4);
        for (const [row, image] of held.entries()) {
          for (let c = 0; c < 4; c++) {
            const at = image * 4 + c;
            expect(Math.abs(refined[at] - blackBox[at] - residuals[row * 4 + c])).toBeLessThan(1e-3);
          }
        }
        expect(Math.max(...residuals.map(Math.abs))).toBeGreaterThan(0.5);
      },
    );
  });

  it.each([SCORES, { kind: 'embedding', width: 7, transforms: 1 } as const])(
    'fits inputs of kind $kind',
    async (inputs) => {
      const data = labelledViews({ classCount: 3, labels: labelsOf(30, 3), inputs });
      const { head } = await fitted(data, LINEAR, allOf(data), SETTING);
      const mean = (logits: Float32Array) => crossEntropies(logits, data.labels, 3).reduce((a, b) => a + b) / 30;
      const before = mean(refineAnswers(noHead(inputs, 3), data.views[0]));
      expect(mean(refineAnswers(head, data.views[0]))).toBeLessThan(before / 3);
    },
  );

  it.each([LINEAR, KERNEL])('asks for the gradient that finite differences have: $kind', async (part) => {
    const data = labelledViews({ classCount: 3, labels: labelsOf(12, 3), inputs: SCORES });
    let regression: ReturnType<HeadArithmetic['regression']> | undefined;
    const arithmetic: HeadArithmetic = {
      regression: (problem) => {
        regression = simdArithmetic.regression(problem);
        return regression;
      },
    };
    const heads = new HeadFit(data, part, new InputAxes(data, allOf(data)), arithmetic);
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
    const { head } = await fitted(data, LINEAR, allOf(data), SETTING);
    for (let j = 0; j < 9; j++) expect(head.weight[j * 4 + 3]).toBeCloseTo(0, 9);
    expect(head.bias[3]).toBeCloseTo(0, 9);
    const kernel = await fitted(data, KERNEL, allOf(data), SETTING);
    const refined = refineAnswers(kernel.head, data.views[0]);
    for (let image = 0; image < 30; image++) {
      expect(refined[image * 4 + 3]).toBeCloseTo(data.views[0][0][image * 9 + 3], 6);
    }
  });

  const changes: [string, (value: number, at: number) => number][] = [
    ['huge logits', (value: number) => value * 1e4],
    ['floors of log-probabilities', (value: number, at: number) => (at % 3 === 0 ? -1e6 : value)],
    ['far from zero', (value: number) => value - 1e7],
    ['less likely than what is left out', (value: number) => value - 1e10],
    ['tiny differences', (value: number) => value * 1e-20],
    ['no differences', () => -3.3],
  ];

  it.each(
    [LINEAR, KERNEL].flatMap((part) => changes.map(([what, change]) => [what, part.kind, part, change] as const)),
  )('stays finite with %s: %s', async (_, _kind, part, change) => {
    const data = labelledViews({ classCount: 4, labels: labelsOf(30, 3), inputs: SCORES });
    data.views[0][0] = data.views[0][0].map(change);
    const { head } = await fitted(data, part, allOf(data), { ...SETTING, tolerance: 1e-3 });
    expect(head.weight.every(Number.isFinite)).toBe(true);
    expect(head.bias.every(Number.isFinite)).toBe(true);
    if (head.kind === 'kernel') {
      for (const { coefficients, kernels } of head.terms) {
        for (const array of [coefficients, ...kernels.map(({ scale }) => scale)]) {
          expect(array.every(Number.isFinite)).toBe(true);
        }
      }
    }
    const refined = refineAnswers(head, data.views[0]);
    const before = crossEntropies(refineAnswers(noHead(SCORES, 4), data.views[0]), data.labels, 4);
    const after = crossEntropies(refined, data.labels, 4);
    const sum = (losses: Float64Array) => losses.reduce((all, loss) => all + loss, 0);
    expect(sum(after)).toBeLessThanOrEqual(sum(before) * (1 + 1e-6));
  });

  it('does not lose transforms whose first one tells nothing', async () => {
    const data = labelledViews({ classCount: 3, labels: labelsOf(30, 3), inputs: { ...SCORES, transforms: 2 } });
    data.views[0][0].fill(0.7);
    const { head } = await fitted(data, { ...LINEAR, transforms: 'joint' }, allOf(data), SETTING);
    const [first, second] = [head.weight.subarray(0, 24), head.weight.subarray(24)];
    expect(Math.max(...first.map(Math.abs))).toBe(0);
    expect(Math.max(...second.map(Math.abs))).toBeGreaterThan(0.05);
  });

  it.each([LINEAR, KERNEL])('counts an image with four views as one without: $kind', async (part) => {
    const data = labelledViews({ classCount: 3, labels: labelsOf(12, 3), inputs: SCORES });
    const fourfold = { ...data, views: new Array(4).fill(data.views[0]) };
    const once = await fitted(data, part, allOf(data), SETTING);
    const repeated = await fitted(fourfold, { ...part, views: 'all' }, allOf(data), SETTING);
    const [one, other] = [once, repeated].map(({ head }) => refineAnswers(head, data.views[0]));
    for (let at = 0; at < one.length; at++) expect(Math.abs(one[at] - other[at])).toBeLessThan(1e-3);
    for (let at = 0; at < once.head.weight.length; at++) {
      expect(Math.abs(once.head.weight[at] - repeated.head.weight[at])).toBeLessThan(1e-3);
    }
  });
});
