import { describe, expect, it } from 'vitest';
import { refineAnswers } from '../../../../src/craft/economy/economy-head.js';
import { stratifiedFolds } from '../../../../src/craft/economy/folds.js';
import { readInputs, sharedLogits } from '../../../../src/craft/economy/head-inputs.js';
import { crossEntropies } from '../../../../src/craft/economy/held-out.js';
import { noHead } from '../../../../src/craft/economy/linear-head.js';
import { averageWeights } from '../../../../src/craft/economy/model-average.js';
import { MOST_PROBES, probeLabelsFor } from '../../../../src/craft/economy/probe-labels.js';
import { crossEntropy } from '../../../../src/craft/losses.js';
import { Random } from '../../../../src/craft/random.js';

describe('averageWeights', () => {
  const weigh = (losses: number[][], priors: number[], seed = 1) =>
    averageWeights(
      losses.map((own) => Float64Array.from(own)),
      priors,
      Random.stream(seed, 'weights'),
    );

  it('is sure of what is better for every image', () => {
    const [better, worse] = weigh([new Array(50).fill(0.1), new Array(50).fill(1)], [0.5, 0.5]);
    expect(better + worse).toBeCloseTo(1, 12);
    expect(better).toBeGreaterThan(0.999);
  });

  it('keeps to what speaks for them before where they are equal', () => {
    const losses = Array.from({ length: 20 }, (_, i) => i / 10);
    const weights = weigh([losses, losses, losses], [0.25, 0.25, 0.5]);
    for (const [model, prior] of [0.25, 0.25, 0.5].entries()) expect(weights[model]).toBeCloseTo(prior, 12);
  });

  it('is unsure where images disagree', () => {
    const losses = Array.from({ length: 40 }, (_, i) => i % 2);
    const [first, second] = weigh([losses, losses.map((loss) => 1 - loss)], [0.5, 0.5]);
    expect(first).toBeGreaterThan(0.15);
    expect(second).toBeGreaterThan(0.15);
  });

  it('stands losses of any size', () => {
    const weights = weigh(
      [
        [1e38, 0],
        [0, 1e38],
        [1, 1],
      ],
      [0.3, 0.3, 0.4],
    );
    expect(weights).toEqual([0, 0, expect.closeTo(1, 12)]);
  });
});

describe('stratifiedFolds', () => {
  it('spreads the images of each class, and those of small classes', () => {
    const labels = Int32Array.from([...new Array(16).fill(0), ...new Array(10).fill(1), 2, 3, 4, 4]);
    const folds = stratifiedFolds(labels, 6, 5, Random.stream(1, 'folds'));
    const sizes = (kept: (label: number) => boolean) => {
      const counts = new Array(5).fill(0);
      for (const [image, fold] of folds.entries()) if (kept(labels[image])) counts[fold]++;
      return counts.sort();
    };
    expect(sizes(() => true)).toEqual([6, 6, 6, 6, 6]);
    expect(sizes((label) => label === 0)).toEqual([3, 3, 3, 3, 4]);
    expect(sizes((label) => label === 1)).toEqual([2, 2, 2, 2, 2]);
    expect(sizes((label) => label > 1)).toEqual([0, 1, 1, 1, 1]);
  });

  it('depends on the seed', () => {
    const labels = new Int32Array(30);
    const folds = (seed: number) => [...stratifiedFolds(labels, 1, 5, Random.stream(seed, 'folds'))];
    expect(folds(1)).toEqual(folds(1));
    expect(folds(1)).not.toEqual(folds(2));
  });
});

describe('crossEntropies', () => {
  it('has the loss of each image, whose mean is the cross-entropy', () => {
    const logits = Float32Array.of(0, 0, 3, -1, 1e4, -1e4);
    const losses = crossEntropies(logits, Int32Array.of(0, 1, 1), 2);
    expect(losses[0]).toBeCloseTo(Math.log(2), 12);
    expect(losses[1]).toBeCloseTo(4 + Math.log1p(Math.exp(-4)), 12);
    expect(losses[2]).toBe(2e4);
    const mean = losses.reduce((sum, loss) => sum + loss, 0) / 3;
    expect(crossEntropy(logits, Int32Array.of(0, 1, 1), 2)).toBeCloseTo(mean, 2);
  });
});

describe('the linear head', () => {
  const inputs = { kind: 'scores', probes: 1, transforms: 2 } as const;
  /** Two images, C = 2, M = 1. */
  const answers = [Float32Array.of(1, 2, 3, 4, 6, 8), Float32Array.of(0, 0, 3, 9, 0, 0)];

  it('reads scores less their mean', () => {
    const into = new Float64Array(4);
    readInputs(inputs, answers[0], 1, 2, into, 1);
    expect([...into]).toEqual([0, -2, 0, 2]);
  });

  it('reads an embedding as it is, after the class logits', () => {
    const into = new Float64Array(1);
    readInputs({ kind: 'embedding', width: 1, transforms: 1 }, answers[0], 1, 2, into, 0);
    expect([...into]).toEqual([8]);
  });

  it('refines by the shares of the transforms, weights and bias', () => {
    const head = {
      ...noHead(inputs, 2),
      shares: Float32Array.of(0.75, 0.25),
      // Row 2: the probe label of the first transform; row 3: the first class of the second one.
      weight: Float32Array.of(0, 0, 0, 0, 1, 0, 0, 2, 0, 0, 0, 0),
      bias: Float32Array.of(10, 20),
    };
    // Centred: [-1, 0, 1], [-2, 0, 2] of the first; [-1, -1, 2], [6, -3, -3] of the second.
    expect([...refineAnswers(head, answers)]).toEqual([0.75 + 1 + 10, 1.5 - 2 + 20, 3 + 2.25 + 2 + 10, 4.5 + 12 + 20]);
  });

  it('does not see what log-probabilities and logits differ by', () => {
    const random = Random.stream(1, 'head');
    const head = { ...noHead(inputs, 2), weight: random.fillNormal(new Float32Array(12)) };
    const moved = answers.map((rows, t) => rows.map((value) => value + 10 + t));
    const [before, after] = [refineAnswers(head, answers), refineAnswers(head, moved)];
    for (let image = 0; image < 2; image++) {
      const [gap, movedGap] = [before, after].map((refined) => refined[2 * image] - refined[2 * image + 1]);
      expect(movedGap).toBeCloseTo(gap, 4);
    }
  });

  it('leaves the logits of the image itself as they are without training', () => {
    expect(refineAnswers(noHead(inputs, 2), answers)).toEqual(Float32Array.of(1, 2, 4, 6));
    expect(sharedLogits(inputs, answers, [0, 1], 2)).toEqual(Float32Array.of(0, 0, 9, 0));
  });
});

describe('probe labels', () => {
  it('are as many as a job may name, and different ones', () => {
    const labels = probeLabelsFor([], 10_000);
    expect(labels.length).toBeGreaterThanOrEqual(MOST_PROBES);
    expect(new Set(labels).size).toBe(labels.length);
    expect(labels.every((label) => label === label.trim().toLowerCase() && label.length > 0)).toBe(true);
  });

  it('are no classes, however those are written', () => {
    const [first, second, third] = probeLabelsFor([], 3);
    expect(probeLabelsFor([` ${first.toUpperCase()} `], 2)).toEqual([second, third]);
  });

  it('are none where none are wanted', () => {
    expect(probeLabelsFor(['cat'], 0)).toEqual([]);
  });
});
