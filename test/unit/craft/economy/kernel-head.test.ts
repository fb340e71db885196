import { describe, expect, it, vi } from 'vitest';
import { PreparedHead, refineAnswers } from '../../../../src/craft/economy/economy-head.js';
import type { HeadInputs } from '../../../../src/craft/economy/head-inputs.js';
import { HeadSum } from '../../../../src/craft/economy/head-sum.js';
import type { KernelHead } from '../../../../src/craft/economy/kernel-head.js';
import { noHead } from '../../../../src/craft/economy/linear-head.js';
import { Landmarks } from '../../../../src/craft/economy/similarity.js';
import { Random } from '../../../../src/craft/random.js';
import { Float32Kernels } from '../../../../src/craft/wasm/float32-kernels.js';

describe('Landmarks', () => {
  it.each([0, 1, 3, 8])('are compared by 1 / (1 + squared distance) of %d numbers', (width) => {
    const random = Random.stream(width, 'points');
    const points = random.fillNormal(new Float64Array(5 * width));
    const point = random.fillNormal(new Float64Array(width));
    const into = new Float64Array(5).fill(10);
    new Landmarks(points, width, 5).compare(point, 0.3, into);
    for (let m = 0; m < 5; m++) {
      let square = 0;
      for (let k = 0; k < width; k++) square += (point[k] - points[m * width + k]) ** 2;
      expect(into[m]).toBeCloseTo(10 + 0.3 / (1 + square), 12);
    }
  });

  it('are like themselves by 1, and never more like anything, however far from zero', () => {
    for (const offset of [0, 1e3, 1e6]) {
      const points = Random.stream(1, 'points').fillNormal(new Float64Array(6 * 7));
      const moved = points.map((value) => value + offset);
      const landmarks = new Landmarks(moved, 7, 6);
      for (let m = 0; m < 6; m++) {
        const into = new Float64Array(6);
        landmarks.compare(moved.slice(m * 7, (m + 1) * 7), 1, into);
        expect(Math.abs(into[m] - 1)).toBeLessThan(1e-2);
        expect(Math.max(...into)).toBeLessThanOrEqual(1);
      }
    }
  });

  it('are like themselves by exactly 1 near zero', () => {
    const landmarks = new Landmarks(Float64Array.of(0.5, -2, 3, 1, 0.25, 4), 3, 2);
    const into = new Float64Array(2);
    landmarks.compare(Float64Array.of(1, 0.25, 4), 1, into);
    expect(into[1]).toBe(1);
  });

  it('are only so many as are asked about', () => {
    const into = new Float64Array(3);
    new Landmarks(Float64Array.of(0, 1, 2), 1, 3).compare(Float64Array.of(1), 1, into, 2);
    expect([...into]).toEqual([0.5, 1, 0]);
  });
});

/** L = 2, T = 2, C = 2: embeddings of two transforms. */
const INPUTS: HeadInputs = { kind: 'embedding', width: 2, transforms: 2 };

/** A term of the mean of two kernels, and one of the first kernel with another scale. */
const HEAD: KernelHead = {
  kind: 'kernel',
  inputs: INPUTS,
  shares: Float32Array.of(0.25, 0.75),
  weight: Float32Array.of(1, 0, 0, 0, 0, 0, 0, 2),
  bias: Float32Array.of(10, 20),
  spaces: [
    {
      transforms: [0, 1],
      mean: Float32Array.of(1, 2),
      axes: Float32Array.of(0, 1, 1, 0),
      landmarks: Float32Array.of(0, 0, 1, 2),
    },
    { transforms: [1], mean: Float32Array.of(0, 0), axes: Float32Array.of(1, 0), landmarks: Float32Array.of(3, 5) },
  ],
  terms: [
    {
      kernels: [
        { space: 0, scale: Float32Array.of(1, 0.5) },
        { space: 1, scale: Float32Array.of(2) },
      ],
      coefficients: Float32Array.of(4, 8, 16, 32),
    },
    { kernels: [{ space: 0, scale: Float32Array.of(2, 1) }], coefficients: Float32Array.of(-1, 1, -2, 2) },
  ],
};

describe('KernelHead', () => {
  it('is the sum of shares, weights, bias and likenesses', () => {
    const answers = [Float32Array.of(100, 200, 3, 5), Float32Array.of(300, 400, 1, 3)];
    // The mean of the embeddings, [2, 4], along the axes: [2, 1]. The second one's first number: 1.
    const near = (...distances: number[]) => 1 / (1 + distances.reduce((sum, distance) => sum + distance ** 2, 0));
    const first = (near(2, 0.5) + near(2 * (1 - 3))) / 2;
    const second = (near(2 - 1, 0.5 * (1 - 2)) + near(2 * (1 - 5))) / 2;
    const [third, fourth] = [near(4, 1), near(2 * (2 - 1), 1 - 2)];
    const expected = [
      250 + 3 + 10 + 4 * first + 16 * second - third - 2 * fourth,
      350 + 2 * 3 + 20 + 8 * first + 32 * second + third + 2 * fourth,
    ];
    const refined = refineAnswers(HEAD, answers);
    for (const [c, value] of expected.entries()) expect(refined[c]).toBeCloseTo(value, 4);
  });

  it('says of each image what it says of it alone, and the same again', () => {
    const random = Random.stream(1, 'answers');
    const answers = [0, 1].map(() => random.fillNormal(new Float32Array(5 * 4), 2));
    const head = new PreparedHead(HEAD);
    const refined = head.refine(answers);
    for (let image = 0; image < 5; image++) {
      const alone = head.refine(answers.map((rows) => rows.slice(image * 4, (image + 1) * 4)));
      expect(alone).toEqual(refined.slice(image * 2, (image + 1) * 2));
    }
    expect(head.refine(answers)).toEqual(refined);
  });
});

describe('HeadSum', () => {
  it('is a linear head without terms', () => {
    const sum = new HeadSum(INPUTS, 2);
    sum.addShares([1]);
    expect(sum.toHead()).toEqual(noHead(INPUTS, 2));
  });

  it('adds heads up', () => {
    const sum = new HeadSum(INPUTS, 2);
    for (const factor of [1, 2]) {
      sum.addShares([factor]);
      sum.addShares([0, 10 * factor]);
      sum.addWeight(4, Float64Array.of(factor, 5));
      sum.addBias(Float64Array.of(0, factor));
    }
    sum.addTerm(HEAD.terms[0]);
    expect(sum.toHead()).toEqual({
      kind: 'kernel',
      inputs: INPUTS,
      shares: Float32Array.of(3, 30),
      weight: Float32Array.of(0, 0, 0, 0, 3, 10, 0, 0),
      bias: Float32Array.of(0, 3),
      spaces: [],
      terms: [HEAD.terms[0]],
    });
  });

  it('has spaces of the same name once', () => {
    const sum = new HeadSum(INPUTS, 2);
    const never = () => {
      throw new Error('It is known already.');
    };
    expect(sum.space('one', () => HEAD.spaces[0])).toBe(0);
    expect(sum.space('other', () => HEAD.spaces[1])).toBe(1);
    expect(sum.space('one', never)).toBe(0);
    sum.addTerm(HEAD.terms[0]);
    expect((sum.toHead() as KernelHead).spaces).toEqual(HEAD.spaces);
  });
});

describe('a head with very many landmarks', () => {
  it('takes fewer images at once, and says the same of each', () => {
    const [count, images] = [200_000, 200];
    const inputs = { kind: 'scores', probes: 0, transforms: 1 } as const;
    const normal = (length: number, name: string) => Random.stream(1, name).fillNormal(new Float32Array(length));
    const head: KernelHead = {
      ...noHead(inputs, 2),
      kind: 'kernel',
      spaces: [
        { transforms: [0], mean: new Float32Array(2), axes: normal(2, 'axes'), landmarks: normal(count, 'landmarks') },
      ],
      terms: [{ kernels: [{ space: 0, scale: Float32Array.of(1) }], coefficients: normal(2 * count, 'coefficients') }],
    };
    const answers = normal(2 * images, 'answers');
    const allocate = vi.spyOn(Float32Kernels.prototype, 'allocate');
    const prepared = new PreparedHead(head);
    const together = prepared.refine([answers]);
    expect(Math.max(...allocate.mock.calls.map(([length]) => length))).toBeLessThanOrEqual(32 * 1024 * 1024);
    allocate.mockRestore();
    for (const image of [0, 166, 167, 199]) {
      const alone = prepared.refine([answers.slice(2 * image, 2 * image + 2)]);
      expect(together.slice(2 * image, 2 * image + 2)).toEqual(alone);
    }
  });
});
