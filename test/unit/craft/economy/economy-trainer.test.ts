import { describe, expect, it } from 'vitest';
import type { EconomyHead } from '../../../../src/craft/economy/economy-head.js';
import { type EconomyProblem, EconomyTrainer } from '../../../../src/craft/economy/economy-trainer.js';
import { simdArithmetic } from '../../../../src/craft/economy/simd-arithmetic.js';
import { InvalidProblemError, ScoringContractError, TrainerStateError } from '../../../../src/craft/errors.js';
import { Random } from '../../../../src/craft/random.js';
import type { Score, ScoringRequest } from '../../../../src/craft/scoring.js';
import { labelsOf } from './views.js';

const PROBLEM: EconomyProblem = {
  classCount: 3,
  labels: labelsOf(24, 3),
  validationLabels: labelsOf(6, 3),
  prompt: { space: 'text', template: 'a photo of a {}.' },
  inputs: { kind: 'scores', probes: 4 },
  transforms: 1,
};

interface Asked {
  imageSet: ScoringRequest['imageSet'];
  view?: number;
  transform?: number;
}

/** A black box whose answers depend on the image, the view and the transform alone. */
function blackBox({ classCount, labels, validationLabels }: EconomyProblem, further = 4) {
  const asked: Asked[] = [];
  const width = classCount + further;
  const score: Score = async ({ imageSet, view, transform }, receive) => {
    asked.push({ imageSet, view, transform });
    const own = imageSet === 'training' ? labels : validationLabels;
    const random = Random.stream(9, `${imageSet}/${view}/${transform}`);
    const answers = Float32Array.from({ length: own.length * width }, () => random.normal());
    for (const [image, label] of own.entries()) {
      answers[image * width + label] += 0.5;
      for (let j = 0; j < further; j++) if (j % classCount === label) answers[image * width + classCount + j] += 2;
    }
    receive(0, answers);
  };
  return { score, asked };
}

const trainerOf = (problem: EconomyProblem, seed = 1) => new EconomyTrainer(problem, seed, simdArithmetic);

async function trained(problem: EconomyProblem, generations: number, replayed = 0, further = 4) {
  const trainer = trainerOf(problem);
  const { score, asked } = blackBox(problem, further);
  const reports = [];
  for (let generation = 0; generation < generations; generation++) {
    if (generation < replayed) await trainer.replayGeneration(score);
    else reports.push(await trainer.runGeneration(score));
  }
  return { trainer, reports, asked, adapter: await trainer.adapter() };
}

describe('EconomyTrainer', () => {
  it('asks about every view of the training images once, and about the validation images themselves', async () => {
    const { asked } = await trained(PROBLEM, 3);
    expect(asked).toEqual([
      { imageSet: 'training', view: 0, transform: 0 },
      { imageSet: 'validation', view: 0, transform: 0 },
      { imageSet: 'training', view: 1, transform: 0 },
      { imageSet: 'training', view: 2, transform: 0 },
    ]);
  });

  it('asks about one transform after the other of each view', async () => {
    const { asked } = await trained({ ...PROBLEM, transforms: 2 }, 4);
    const training = asked.filter(({ imageSet }) => imageSet === 'training');
    expect(training.map(({ view, transform }) => [view, transform])).toEqual([
      [0, 0],
      [0, 1],
      [1, 0],
      [1, 1],
    ]);
    expect(asked.filter(({ imageSet }) => imageSet === 'validation')).toEqual([
      { imageSet: 'validation', view: 0, transform: 0 },
      { imageSet: 'validation', view: 0, transform: 1 },
    ]);
  });

  it('reports figures of the head and of the black box', async () => {
    const { reports, adapter } = await trained(PROBLEM, 2);
    expect((adapter.head as EconomyHead).kind).toBe('kernel');
    expect(reports.map(({ generation }) => generation)).toEqual([1, 2]);
    const [report] = reports;
    expect(report.trainAccuracy).toBeGreaterThan(report.blackBoxTrainAccuracy as number);
    expect(report.validationAccuracy).toBeGreaterThan(0.5);
    expect(Number.isFinite(report.centreLoss)).toBe(true);
    expect(report.template).toBe('a photo of a {}.');
  });

  it.each([
    ['views', PROBLEM, 5],
    ['transforms', { ...PROBLEM, transforms: 3 }, 7],
    ['no validation images', { ...PROBLEM, validationLabels: new Int32Array(0) }, 4],
    ['embeddings', { ...PROBLEM, inputs: { kind: 'embedding' } } as EconomyProblem, 4],
    [
      'a soft prompt',
      {
        ...PROBLEM,
        prompt: { space: 'soft', context: new Float32Array(8), contextTokens: 2, contextWidth: 4 },
      } as EconomyProblem,
      2,
    ],
  ])(
    'goes on from answers that were kept as if it had not been interrupted: %s',
    async (_, problem, generations) => {
      const whole = await trained(problem, generations);
      for (let replayed = 1; replayed <= generations; replayed++) {
        const resumed = await trained(problem, generations, replayed);
        expect(resumed.adapter).toEqual(whole.adapter);
        expect(resumed.reports).toEqual(whole.reports.slice(replayed));
        expect(resumed.trainer.isFinished).toBe(whole.trainer.isFinished);
      }
    },
    60_000,
  );

  it('has the untrained model before the first generation', async () => {
    const { head } = await trainerOf(PROBLEM).adapter();
    expect((head as EconomyHead).shares).toEqual(Float32Array.of(1));
    expect((head as EconomyHead).weight.every((weight) => weight === 0)).toBe(true);
  });

  it('has a head of the images as they are until it has seen the first view in all transforms', async () => {
    const problem = { ...PROBLEM, transforms: 3 };
    for (const [generations, transforms] of [
      [1, 1],
      [2, 1],
      [3, 3],
      [4, 3],
    ]) {
      const { adapter } = await trained(problem, generations);
      expect((adapter.head as EconomyHead).inputs.transforms).toBe(transforms);
    }
  });

  it('does not use part of a view', async () => {
    const problem = { ...PROBLEM, transforms: 2 };
    expect((await trained(problem, 3)).adapter).toEqual((await trained(problem, 2)).adapter);
  });

  it('sees how long embeddings are', async () => {
    const { adapter } = await trained({ ...PROBLEM, inputs: { kind: 'embedding' } }, 1, 0, 11);
    expect((adapter.head as EconomyHead).inputs).toEqual({ kind: 'embedding', width: 11, transforms: 1 });
  });

  it('is finished when views stop making it better, and not before there are eight', async () => {
    const problem = { ...PROBLEM, validationLabels: new Int32Array(0) };
    const { score } = blackBox(problem);
    const repeated: Score = (request, receive) => score({ ...request, view: 0 }, receive);
    const trainer = trainerOf(problem);
    const finished = [];
    for (let generation = 1; generation <= 8; generation++) {
      await trainer.runGeneration(repeated);
      finished.push(trainer.isFinished);
    }
    // The same view again and again tells nothing new.
    expect(finished).toEqual([...new Array(7).fill(false), true]);
  }, 30_000);

  it('keeps nothing but the answers', async () => {
    expect(await trainerOf(PROBLEM).serialise()).toBeNull();
  });

  it.each<[string, Partial<EconomyProblem>, RegExp]>([
    ['one class', { classCount: 1 }, /classCount/],
    ['no images', { labels: new Int32Array(0) }, /training image/],
    ['a label that is no class', { labels: Int32Array.of(0, 3) }, /labels\[1\] is 3/],
    ['a validation label that is no class', { validationLabels: Int32Array.of(-1) }, /validationLabels\[0\] is -1/],
    ['no transforms', { transforms: 0 }, /transforms/],
    ['half a probe label', { inputs: { kind: 'scores', probes: 0.5 } }, /probes/],
  ])('refuses %s', (_, change, message) => {
    expect(() => trainerOf({ ...PROBLEM, ...change })).toThrow(InvalidProblemError);
    expect(() => trainerOf({ ...PROBLEM, ...change })).toThrow(message);
  });

  it.each<[string, EconomyProblem, (imageSet: string) => number]>([
    ['rows that are too short', PROBLEM, () => 6],
    ['embeddings of fewer numbers than classes', { ...PROBLEM, inputs: { kind: 'embedding' } }, () => 2],
    [
      'validation embeddings of other lengths',
      { ...PROBLEM, inputs: { kind: 'embedding' } },
      (imageSet) => (imageSet === 'training' ? 8 : 9),
    ],
  ])('is of no use after %s', async (_, problem, width) => {
    const trainer = trainerOf(problem);
    const score: Score = async ({ imageSet }, receive) => {
      const { labels, validationLabels } = problem;
      const images = imageSet === 'training' ? labels.length : validationLabels.length;
      receive(0, new Float32Array(images * width(imageSet)));
    };
    await expect(trainer.runGeneration(score)).rejects.toThrow(ScoringContractError);
    await expect(trainer.runGeneration(score)).rejects.toThrow(TrainerStateError);
  });
});
