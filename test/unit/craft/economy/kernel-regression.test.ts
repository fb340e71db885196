import { describe, expect, it } from 'vitest';
import type { LabelledViews } from '../../../../src/craft/economy/fit-inputs.js';
import type { KernelPart } from '../../../../src/craft/economy/head-grid.js';
import { answerWidthOf, type HeadInputs } from '../../../../src/craft/economy/head-inputs.js';
import type { KernelHead } from '../../../../src/craft/economy/kernel-head.js';
import { fitted } from './fitted.js';
import { plainKernel } from './plain-kernel.js';
import { labelledViews, labelsOf } from './views.js';

const SETTING = { strength: 0.1, biasStrength: 0.1 };
const EMBEDDING: HeadInputs = { kind: 'embedding', width: 4, transforms: 2 };
const SCORES: HeadInputs = { kind: 'scores', probes: 3, transforms: 3 };

/** Of an image in a view, the mean over the transforms that a part looks at. */
function plainOffset({ inputs, classCount, views }: LabelledViews, part: KernelPart, view: number, image: number) {
  const width = answerWidthOf(inputs, classCount);
  const seen = part.transforms === 'first' ? views[view].slice(0, 1) : views[view];
  return Array.from({ length: classCount }, (_, c) => {
    return seen.reduce((sum, rows) => sum + rows[image * width + c], 0) / seen.length;
  });
}

const parts = (['first', 'all'] as const).flatMap((views) => {
  return (['first', 'mean', 'apart'] as const).flatMap((transforms) => {
    return [0, 0.75, 1].map((power): KernelPart => ({ kind: 'kernel', views, transforms, power }));
  });
});

describe('kernel logistic regression', () => {
  // Minimum of Σ w·loss + strength/2·αᵀKα + biasStrength/2·|b|²: both gradients vanish, and K is regular.
  it.each([EMBEDDING, SCORES].flatMap((inputs) => parts.map((part) => ({ ...part, kind: inputs.kind, inputs, part }))))(
    'is at its optimum by the textbook: $kind, $views views, $transforms, power $power',
    async ({ inputs, part }) => {
      const [classCount, images] = [3, 24];
      const data = labelledViews({ classCount, labels: labelsOf(images, classCount), inputs, views: 2, apart: 0.7 });
      const { head } = await fitted(data, part, [...data.labels.keys()], SETTING);
      const { terms, bias, weight } = head as KernelHead;
      expect(weight.every((value) => value === 0)).toBe(true);
      expect(terms).toHaveLength(1);
      const alpha = terms[0].coefficients;
      const views = part.views === 'all' ? 2 : 1;
      const rows = Array.from({ length: views * images }, (_, at) => ({
        view: Math.floor(at / images),
        image: at % images,
      }));
      expect(alpha).toHaveLength(rows.length * classCount);
      const kernel = plainKernel(data, part, rows);
      const pull = new Array<number>(classCount).fill(0);
      for (const [r, row] of rows.entries()) {
        const logits = plainOffset(data, part, row.view, row.image).map((value, c) => value + bias[c]);
        for (const [m, landmark] of rows.entries()) {
          const likeness = kernel(row, landmark);
          for (let c = 0; c < classCount; c++) logits[c] += likeness * alpha[m * classCount + c];
        }
        const exponentials = logits.map(Math.exp);
        const sum = exponentials.reduce((all, value) => all + value, 0);
        for (let c = 0; c < classCount; c++) {
          const rest = ((data.labels[row.image] === c ? 1 : 0) - exponentials[c] / sum) / views;
          expect(Math.abs(alpha[r * classCount + c] - rest / SETTING.strength)).toBeLessThan(5e-3);
          pull[c] += rest;
        }
      }
      // Far from nothing to tell: what is compared is larger than what it is compared by.
      expect(Math.max(...alpha.map(Math.abs))).toBeGreaterThan(1);
      for (const [c, own] of pull.entries()) expect(Math.abs(own - SETTING.biasStrength * bias[c])).toBeLessThan(2e-3);
    },
  );
});
