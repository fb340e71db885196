import { describe, expect, it } from 'vitest';
import { searchGrid, settingsOf } from '../../../../src/craft/economy/head-grid.js';
import { chooseHead, fitHead, type LabelledViews } from '../../../../src/craft/economy/head-search.js';
import { type HeadInputs, noHead, refineAnswers } from '../../../../src/craft/economy/linear-head.js';
import { simdArithmetic } from '../../../../src/craft/economy/simd-arithmetic.js';
import { accuracy } from '../../../../src/craft/metrics.js';
import { Random } from '../../../../src/craft/random.js';
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

describe('chooseHead', () => {
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

  it('has shares of the transforms that add up to 1', async () => {
    const data = labelledViews({ classCount: 3, labels: labelsOf(30, 3), inputs: { ...SCORES, transforms: 4 } });
    const { head } = await chosenHead(data);
    expect(head.shares.reduce((sum, share) => sum + share, 0)).toBeCloseTo(1, 5);
  });
});

describe('searchGrid', () => {
  const size = { images: 352, views: 1, transforms: 1, classes: 22, probes: 128, inputs: 150 };

  it('tries with more queries what it tries with fewer', () => {
    const settings = (more: Partial<typeof size>) => searchGrid({ ...size, ...more }).parts.flatMap(settingsOf);
    const few = settings({});
    expect(few).toHaveLength(3 * 5 * 2 + 3 * 5);
    for (const more of [{ views: 2 }, { transforms: 2 }, { views: 32, transforms: 8 }]) {
      const many = settings(more);
      expect(many.length).toBeGreaterThan(few.length);
      for (const setting of few) expect(many).toContainEqual(setting);
    }
  });

  it('asks nothing of probe labels that there are not', () => {
    expect(searchGrid({ ...size, probes: 0, inputs: 22 }).parts.map(({ labels }) => labels)).toEqual(['all']);
  });

  it('tries less the larger a step is', () => {
    const small = searchGrid(size);
    const medium = searchGrid({ ...size, images: 4000, classes: 250 });
    const large = searchGrid({ ...size, images: 16_000, classes: 1000, probes: 512, inputs: 1512 });
    const fits = ({ parts, heldOut }: typeof small) => parts.flatMap(settingsOf).length * heldOut;
    expect([small, medium, large].map(fits)).toEqual([225, 20, 3]);
  });

  it('holds out every one of few images, however much there is of each', () => {
    expect(searchGrid({ ...size, views: 64, transforms: 8 }).heldOut).toBe(5);
    expect(searchGrid({ ...size, images: 1500, classes: 1000, inputs: 1128 }).heldOut).toBe(3);
  });
});
