import { describe, expect, it } from 'vitest';
import { type EconomyHead, refineAnswers } from '../../../../src/craft/economy/economy-head.js';
import type { LabelledViews } from '../../../../src/craft/economy/fit-inputs.js';
import type { HeadInputs } from '../../../../src/craft/economy/head-inputs.js';
import { chooseHead, fitHead } from '../../../../src/craft/economy/head-search.js';
import { noHead } from '../../../../src/craft/economy/linear-head.js';
import { simdArithmetic } from '../../../../src/craft/economy/simd-arithmetic.js';
import { accuracy } from '../../../../src/craft/metrics.js';
import { Random } from '../../../../src/craft/random.js';
import { fitted } from './fitted.js';
import { labelledViews, labelsOf } from './views.js';

const SCORES: HeadInputs = { kind: 'scores', probes: 6, transforms: 1 };

const choose = (data: LabelledViews, seed = 1) => chooseHead(data, Random.stream(seed, 'folds'), simdArithmetic);

async function chosenHead(data: LabelledViews) {
  const choice = await choose(data);
  return { choice, head: await fitHead(data, choice, simdArithmetic) };
}

/** Class logits that are right and sure; the labels of some images are others. */
function sureBlackBox(labels: Int32Array, classCount: number): LabelledViews {
  const width = classCount + 6;
  const random = Random.stream(5, 'noise');
  const answers = random.fillNormal(new Float32Array(labels.length * width));
  for (const [image, label] of labels.entries()) answers[image * width + label] += 12;
  return { inputs: SCORES, classCount, labels, views: [[answers]] };
}

/** Two classes in small clusters on a board of so many squares a side, as its colours: no line tells them apart. */
function board(side: number, images: number, seed: number): LabelledViews {
  const random = Random.stream(seed, 'board');
  const labels = new Int32Array(images);
  const rows = random.fillNormal(new Float32Array(images * 4));
  for (let image = 0; image < images; image++) {
    const [x, y] = [image % side, Math.floor(image / side) % side];
    labels[image] = (x + y) % 2;
    rows[image * 4 + 2] = x + 0.12 * random.normal();
    rows[image * 4 + 3] = y + 0.12 * random.normal();
  }
  return { inputs: { kind: 'embedding', width: 2, transforms: 1 }, classCount: 2, labels, views: [[rows]] };
}

describe('chooseHead', () => {
  it.each([2, 4])('finds a kernel where classes are clusters on a board with a side of %d', async (side) => {
    const data = board(side, 160, 1);
    const { choice, head } = await chosenHead(data);
    const kernels = choice.members.filter(({ part }) => part.kind === 'kernel');
    expect(kernels.reduce((sum, { share }) => sum + share, 0)).toBeGreaterThan(0.9);
    expect(head.kind).toBe('kernel');
    expect(choice.heldOut.accuracy).toBeGreaterThan(0.95);
    const linear = await fitted(
      data,
      { kind: 'linear', views: 'first', transforms: 'first', power: 0.75 },
      [...data.labels.keys()],
      { strength: 1, biasStrength: 1 },
    );
    // Of images that neither has seen.
    const further = board(side, 160, 2);
    const right = (of: EconomyHead) => accuracy(refineAnswers(of, further.views[0]), further.labels, 2);
    expect(right(head)).toBeGreaterThan(0.95);
    expect(right(linear.head)).toBeLessThan(0.7);
  });

  it('keeps to a line where a line is what tells classes apart', async () => {
    const random = Random.stream(3, 'line');
    const rows = random.fillNormal(new Float32Array(200 * 12));
    const labels = Int32Array.from({ length: 200 }, (_, image) => {
      let sum = 0;
      for (let j = 2; j < 12; j++) sum += rows[image * 12 + j];
      return sum > 0 ? 1 : 0;
    });
    const data: LabelledViews = {
      ...{ classCount: 2, labels, views: [[rows]] },
      inputs: { kind: 'embedding', width: 10, transforms: 1 },
    };
    const { members } = await choose(data);
    const linear = members.filter(({ part }) => part.kind === 'linear');
    expect(linear.reduce((sum, { share }) => sum + share, 0)).toBeGreaterThan(0.5);
  });

  it('finds heads that are better than the black box where there are any', async () => {
    const data = labelledViews({ classCount: 4, labels: labelsOf(80, 4), inputs: SCORES, apart: 1 });
    const { choice, head } = await chosenHead(data);
    expect(choice.heldOut.loss).toBeLessThan(choice.blackBox.loss / 2);
    expect(choice.heldOut.accuracy).toBeGreaterThan(choice.blackBox.accuracy);
    // On images that it has not seen: the same classes, other noise.
    const further = labelledViews({ classCount: 4, labels: labelsOf(80, 4), inputs: SCORES, apart: 1, views: 2 });
    expect(accuracy(refineAnswers(head, further.views[1]), data.labels, 4)).toBeGreaterThan(0.9);
  });

  it('leaves a black box alone that knows everything', async () => {
    const { choice } = await chosenHead(sureBlackBox(labelsOf(40, 4), 4));
    expect(choice.heldOut.loss).toBeLessThanOrEqual(choice.blackBox.loss);
    expect(choice.heldOut.accuracy).toBe(choice.blackBox.accuracy);
  });

  it.each([1, 2, 3])(
    'is not worse than the black box where labels have nothing to do with images, seed %d',
    async (seed) => {
      const random = Random.stream(seed, 'labels');
      const labels = Int32Array.from({ length: 60 }, () => random.integer(3));
      const data = labelledViews({ classCount: 3, labels, inputs: SCORES, apart: 0 }, seed);
      const { blackBox, heldOut } = await choose(data, seed);
      expect(heldOut.loss).toBeLessThanOrEqual(blackBox.loss);
    },
  );

  it('weighs no more than everything, and says what is left to no head', async () => {
    const { members } = await choose(labelledViews({ classCount: 3, labels: labelsOf(30, 3), inputs: SCORES }));
    const shares = members.map(({ share }) => share);
    expect(shares.every((share) => share >= 0.01)).toBe(true);
    expect(shares.reduce((sum, share) => sum + share, 0)).toBeLessThanOrEqual(1 + 1e-12);
  });

  it('is the same to the last bit each time', async () => {
    const data = labelledViews({
      classCount: 3,
      labels: labelsOf(30, 3),
      inputs: { ...SCORES, transforms: 2 },
      views: 2,
    });
    const [first, second] = [await chosenHead(data), await chosenHead(data)];
    expect(first.head.kind).toBe('kernel');
    expect(second).toEqual(first);
  });

  it('is the same while another one is under way', async () => {
    const data = labelledViews({ classCount: 3, labels: labelsOf(30, 3), inputs: SCORES });
    const other = labelledViews({ classCount: 5, labels: labelsOf(45, 5), inputs: { ...SCORES, probes: 9 } });
    const alone = await chosenHead(data);
    const [together] = await Promise.all([chosenHead(data), chosenHead(other)]);
    expect(together).toEqual(alone);
  });

  it.each<[string, LabelledViews]>([
    ['two images', labelledViews({ classCount: 2, labels: labelsOf(2, 2), inputs: SCORES })],
    ['one image', labelledViews({ classCount: 2, labels: labelsOf(1, 2), inputs: SCORES })],
    ['one image of each class', labelledViews({ classCount: 9, labels: labelsOf(9, 9), inputs: SCORES })],
    ['images of one class only', labelledViews({ classCount: 3, labels: new Int32Array(10), inputs: SCORES })],
    ['a class without images', labelledViews({ classCount: 5, labels: labelsOf(20, 4), inputs: SCORES })],
    [
      'a class of one image',
      labelledViews({ classCount: 3, labels: Int32Array.of(0, 0, 0, 0, 0, 0, 1, 1, 1, 2), inputs: SCORES }),
    ],
    ['no probe labels', labelledViews({ classCount: 3, labels: labelsOf(12, 3), inputs: { ...SCORES, probes: 0 } })],
    [
      'embeddings wider than there are images',
      labelledViews({
        classCount: 3,
        labels: labelsOf(12, 3),
        inputs: { kind: 'embedding', width: 64, transforms: 1 },
      }),
    ],
    [
      'embeddings of no numbers',
      labelledViews({ classCount: 3, labels: labelsOf(12, 3), inputs: { kind: 'embedding', width: 0, transforms: 1 } }),
    ],
  ])('manages with %s', async (_, data) => {
    const { choice, head } = await chosenHead(data);
    expect(Number.isFinite(choice.heldOut.loss)).toBe(true);
    expect(choice.heldOut.loss).toBeLessThanOrEqual(choice.blackBox.loss);
    const refined = refineAnswers(head, data.views[0]);
    expect(refined).toHaveLength(data.labels.length * data.classCount);
    expect(refined.every(Number.isFinite)).toBe(true);
  });

  it('gives equal answers equal logits near those of the black box', async () => {
    const data = labelledViews({ classCount: 3, labels: labelsOf(15, 3), inputs: SCORES });
    const row = data.views[0][0].slice(0, 9);
    for (let image = 0; image < 15; image++) data.views[0][0].set(row, image * 9);
    const { head } = await chosenHead(data);
    // Other answers are no further from those that were seen than they are from each other.
    const other = row.map((value, j) => value + (j % 2));
    const moved = refineAnswers(head, [other]).map((value, c) => value - other[c]);
    expect(Math.max(...moved.map(Math.abs))).toBeLessThan(50);
  });
});

describe('fitHead', () => {
  it('leaves the answers as they are without members', async () => {
    const data = labelledViews({ classCount: 3, labels: labelsOf(9, 3), inputs: { ...SCORES, transforms: 2 } });
    expect(await fitHead(data, { members: [] }, simdArithmetic)).toEqual(noHead(data.inputs, 3));
  });

  it('is the average of the heads of its members, and of no head', async () => {
    const inputs = { ...SCORES, transforms: 2 };
    const data = labelledViews({ classCount: 3, labels: labelsOf(30, 3), inputs, views: 2 });
    const setting = { strength: 0.1, biasStrength: 0.1 };
    const [power, views] = [0.5, 'first'] as const;
    const members = [
      { part: { kind: 'kernel', views, transforms: 'apart', power }, ...setting, share: 0.2 },
      { part: { kind: 'kernel', views: 'all', transforms: 'apart', power }, ...setting, share: 0.2 },
      { part: { kind: 'kernel', views, transforms: 'mean', power: 0.75 }, ...setting, share: 0.1 },
      { part: { kind: 'linear', views, transforms: 'first', power }, ...setting, strength: 10, share: 0.1 },
      { part: { kind: 'kernel', views, transforms: 'apart', power }, ...setting, strength: 0.01, share: 0.15 },
    ] as const;
    const head = await fitHead(data, { members: [...members] }, simdArithmetic);
    const refined = refineAnswers(head, data.views[0]);
    const expected = refineAnswers(noHead(inputs, 3), data.views[0]).map((value) => 0.25 * value);
    for (const { part, share, ...how } of members) {
      const alone = await fitted(data, part, [...data.labels.keys()], { ...how, tolerance: 1e-4 });
      for (const [at, value] of refineAnswers(alone.head, data.views[0]).entries()) expected[at] += share * value;
    }
    for (const [at, value] of expected.entries()) expect(Math.abs(refined[at] - value)).toBeLessThan(0.02);
  });

  it('has shares of the transforms that add up to 1', async () => {
    const data = labelledViews({ classCount: 3, labels: labelsOf(30, 3), inputs: { ...SCORES, transforms: 4 } });
    const { head } = await chosenHead(data);
    expect(head.shares.reduce((sum, share) => sum + share, 0)).toBeCloseTo(1, 5);
  });
});
