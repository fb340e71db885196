import { describe, expect, it } from 'vitest';
import { refineAnswers } from '../../../../src/craft/economy/economy-head.js';
import type { LabelledViews, Row } from '../../../../src/craft/economy/fit-inputs.js';
import { sharesOf } from '../../../../src/craft/economy/head-fit.js';
import { type KernelPart, MOST_LANDMARKS } from '../../../../src/craft/economy/head-grid.js';
import { type HeadInputs, sharedLogits } from '../../../../src/craft/economy/head-inputs.js';
import { HeadSum } from '../../../../src/craft/economy/head-sum.js';
import { InputAxes } from '../../../../src/craft/economy/input-axes.js';
import type { KernelHead } from '../../../../src/craft/economy/kernel-head.js';
import { KernelInputs } from '../../../../src/craft/economy/kernel-inputs.js';
import { Random } from '../../../../src/craft/random.js';
import { allBut, fitted } from './fitted.js';
import { plainKernel } from './plain-kernel.js';
import { labelledViews, labelsOf } from './views.js';

const PART: KernelPart = { kind: 'kernel', views: 'first', transforms: 'first', power: 0.75 };
const INPUTS: HeadInputs = { kind: 'embedding', width: 5, transforms: 2 };
const SETTING = { strength: 0.1, biasStrength: 0.1 };
const CLASSES = 3;

const parts = (['first', 'all'] as const).flatMap((views) => {
  return (['first', 'mean', 'apart'] as const).map((transforms): KernelPart => ({ ...PART, views, transforms }));
});

function inputsOf(data: LabelledViews, part: KernelPart, images: number[]) {
  const views = part.views === 'all' ? data.views.length : 1;
  const axes = new InputAxes(data, images);
  return { inputs: new KernelInputs(data, part, views, axes), rows: axes.rows(views) };
}

/** Products of the rows of inputs, without the bias. */
function products(inputs: KernelInputs, rows: Row[], others: Row[]): number[][] {
  const width = inputs.count + 1;
  const [own, other] = [inputs.of(rows), inputs.of(others)];
  return rows.map((_, i) => {
    return others.map((_, j) => {
      let sum = 0;
      for (let k = 0; k < inputs.count; k++) sum += own[i * width + k] * other[j * width + k];
      return sum;
    });
  });
}

describe('KernelInputs', () => {
  const data = labelledViews({ classCount: CLASSES, labels: labelsOf(30, CLASSES), inputs: INPUTS, views: 2 });
  const { counted, held } = allBut(5, 30);

  it.each(parts)(
    'multiplied with those of the landmarks are the likenesses: $views views, $transforms',
    async (part) => {
      const { inputs, rows } = inputsOf(data, part, counted);
      expect(inputs.count).toBe(rows.length);
      expect([...inputs.scales]).toEqual(new Array(rows.length).fill(1));
      const likeness = plainKernel(data, part, rows);
      const further = held.map((image) => ({ view: 0, image }));
      for (const asked of [rows, further]) {
        for (const [i, own] of products(inputs, asked, rows).entries()) {
          for (const [m, product] of own.entries()) {
            expect(Math.abs(product - likeness(asked[i], rows[m]))).toBeLessThan(1e-5);
          }
        }
      }
    },
  );

  it('of the landmarks are the rows of a lower triangular matrix, and all end with the input of the bias', () => {
    const { inputs, rows } = inputsOf(data, PART, counted);
    const values = inputs.of([...rows, { view: 1, image: 0 }]);
    const width = rows.length + 1;
    expect(values).toHaveLength((rows.length + 1) * width);
    for (let i = 0; i < rows.length; i++) {
      expect(values[i * width + i]).toBeGreaterThan(0);
      for (let k = i + 1; k < rows.length; k++) expect(values[i * width + k]).toBe(0);
    }
    for (let i = 0; i <= rows.length; i++) expect(values[i * width + width - 1]).toBe(1);
  });

  it('of an image that looks like a landmark are those of the landmark', () => {
    const twin: LabelledViews = { ...data, views: data.views.map((answers) => answers.map((rows) => rows.slice())) };
    const width = CLASSES + 5;
    for (const rows of twin.views[0]) rows.copyWithin(0, 7 * width, 8 * width);
    const { inputs } = inputsOf(twin, PART, counted);
    const values = inputs.of([
      { view: 0, image: 7 },
      { view: 0, image: 0 },
    ]);
    const [landmark, other] = [values.subarray(0, inputs.count + 1), values.subarray(inputs.count + 1)];
    for (const [k, value] of landmark.entries()) expect(Math.abs(other[k] - value)).toBeLessThan(1e-3);
  });

  it.each(['first', 'mean', 'apart'] as const)('have a landmark in all spaces of its own: %s', async (transforms) => {
    const { head } = await fitted(data, { ...PART, transforms }, counted, SETTING);
    const { spaces, terms } = head as KernelHead;
    expect(spaces.map((space) => space.transforms)).toEqual(
      { first: [[0]], mean: [[0, 1]], apart: [[0], [1]] }[transforms],
    );
    expect(terms.map(({ kernels }) => kernels.map(({ space }) => space))).toEqual([[...spaces.keys()]]);
    for (const { landmarks, axes } of spaces) expect(landmarks).toHaveLength((counted.length * axes.length) / 5);
    expect(terms[0].coefficients).toHaveLength(counted.length * CLASSES);
  });

  it('of two powers share their space', () => {
    const axes = new InputAxes(data, counted);
    const sum = new HeadSum(INPUTS, CLASSES);
    for (const power of [0.5, 0.75]) {
      const inputs = new KernelInputs(data, { ...PART, power }, 1, axes);
      inputs.addTo(sum, new Float64Array((inputs.count + 1) * CLASSES).fill(1));
    }
    const { spaces, terms } = sum.toHead() as KernelHead;
    expect(spaces).toHaveLength(1);
    expect(terms).toHaveLength(2);
    expect(terms[0].kernels[0].scale).not.toEqual(terms[1].kernels[0].scale);
  });
});

/** How far what a fit says of images held out is from what its head says of them, at most. */
async function furthest(data: LabelledViews, part: KernelPart, every = 4): Promise<{ head: KernelHead; far: number }> {
  const { counted, held } = allBut(every, data.labels.length);
  const { head, residuals } = await fitted(data, part, counted, SETTING);
  const refined = refineAnswers(head, data.views[0]);
  const blackBox = sharedLogits(data.inputs, data.views[0], sharesOf(part, data.inputs.transforms), data.classCount);
  let far = 0;
  for (const [row, image] of held.entries()) {
    for (let c = 0; c < data.classCount; c++) {
      const at = image * data.classCount + c;
      far = Math.max(far, Math.abs(refined[at] - blackBox[at] - residuals[row * data.classCount + c]));
    }
  }
  expect(Number.isFinite(far)).toBe(true);
  return { head: head as KernelHead, far };
}

describe('a kernel head of unusual images', () => {
  it.each(parts)('has no terms where all inputs are the same: $views views, $transforms', async (part) => {
    const labels = Int32Array.from({ length: 20 }, (_, image) => (image % 5 > 1 ? 0 : 1));
    const data = labelledViews({ classCount: 2, labels, inputs: INPUTS, views: 2 });
    for (const rows of data.views.flat()) rows.fill(0.3);
    const { head, far } = await furthest(data, part);
    expect(head.kind).toBe('linear');
    expect(far).toBeLessThan(1e-3);
    // What the labels tell by themselves: 0 is more frequent.
    const [zero, one] = refineAnswers(head, data.views[0]);
    expect(zero - one).toBeGreaterThan(0.1);
    expect(zero - one).toBeLessThan(Math.log(3 / 2) + 0.3);
  });

  it.each([0, 1])('loses nothing where transform %d tells nothing', async (silent) => {
    const data = labelledViews({ classCount: CLASSES, labels: labelsOf(24, CLASSES), inputs: INPUTS });
    data.views[0][silent].fill(0.7);
    const { head, far } = await furthest(data, { ...PART, transforms: 'apart' });
    expect(head.spaces.map(({ transforms }) => transforms)).toEqual([[1 - silent]]);
    expect(Math.max(...head.terms[0].coefficients.map(Math.abs))).toBeGreaterThan(0.5);
    expect(far).toBeLessThan(1e-3);
  });

  it.each(parts)('stands images that are there twice: $views views, $transforms', async (part) => {
    const data = labelledViews({ classCount: CLASSES, labels: labelsOf(30, CLASSES), inputs: INPUTS, views: 2 });
    // The same labels: three images on, nine on.
    for (const rows of data.views.flat()) rows.copyWithin(9 * 8, 0, 9 * 8);
    expect((await furthest(data, part)).far).toBeLessThan(1e-3);
  });

  it('stands one image', async () => {
    const data = labelledViews({ classCount: 2, labels: labelsOf(2, 2), inputs: INPUTS });
    expect((await furthest(data, PART, 2)).far).toBeLessThan(1e-3);
  });
});

describe('more images than landmarks', () => {
  /** Embeddings of two numbers: the first tells the class, however little. */
  function many(labels: Int32Array): LabelledViews {
    const random = Random.stream(4, 'many');
    const rows = Float32Array.from({ length: labels.length * 4 }, () => random.normal());
    for (const [image, label] of labels.entries())
      rows[image * 4 + 2] = (label === 0 ? -1 : 1) * (1 + rows[image * 4 + 2] ** 2);
    return { inputs: { kind: 'embedding', width: 2, transforms: 1 }, classCount: 2, labels, views: [[rows]] };
  }

  it.each([
    ['as many of each class', (image: number) => image % 2, MOST_LANDMARKS / 2],
    ['all of a small class', (image: number) => (image % 4 === 1 ? 1 : 0), 275],
    ['classes one after the other', (image: number) => (image < 550 ? 0 : 1), MOST_LANDMARKS / 2],
  ])('are compared with %s', async (_, labelOf, ofOne) => {
    const data = many(Int32Array.from({ length: 1100 }, (_, image) => labelOf(image)));
    const { inputs, rows } = inputsOf(data, PART, [...data.labels.keys()]);
    expect(inputs.count).toBe(MOST_LANDMARKS);
    const sum = new HeadSum(data.inputs, 2);
    inputs.addTo(sum, new Float64Array((MOST_LANDMARKS + 1) * 2).fill(0.1));
    const [{ mean, axes, landmarks }] = (sum.toHead() as KernelHead).spaces;
    expect(axes).toHaveLength(4);
    const seen = new Map<string, number>();
    const keyOf = (one: number, other: number) => `${one.toFixed(3)}/${other.toFixed(3)}`;
    for (const { image } of rows)
      seen.set(keyOf(data.views[0][0][image * 4 + 2], data.views[0][0][image * 4 + 3]), image);
    const found = new Set<number>();
    let near = 0;
    for (let m = 0; m < MOST_LANDMARKS; m++) {
      const [one, other] = [landmarks[2 * m], landmarks[2 * m + 1]];
      const [x, y] = [0, 1].map((j) => mean[j] + axes[2 * j] * one + axes[2 * j + 1] * other);
      if (x > 0) near++;
      const image = seen.get(keyOf(x, y));
      if (image !== undefined) found.add(image);
    }
    expect(near).toBe(ofOne);
    // Rounding moves few of them.
    expect(found.size).toBeGreaterThan(MOST_LANDMARKS * 0.9);
  });

  // With two inputs likenesses are told by far fewer numbers than there are landmarks.
  it('are all fitted to, and the head says of others what the fit says', async () => {
    const { head, far } = await furthest(many(labelsOf(1300, 2)), PART, 12);
    const { coefficients } = head.terms[0];
    expect(coefficients).toHaveLength(MOST_LANDMARKS * 2);
    expect(Math.max(...coefficients.map(Math.abs))).toBeLessThan(1e3);
    expect(far).toBeLessThan(1e-3);
  }, 60_000);
});
