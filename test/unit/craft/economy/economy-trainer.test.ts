import { describe, expect, it } from 'vitest';
import type { HeadArithmetic } from '../../../../src/craft/economy/arithmetic.js';
import { type EconomyHead, PreparedHead } from '../../../../src/craft/economy/economy-head.js';
import { type EconomyProblem, EconomyTrainer } from '../../../../src/craft/economy/economy-trainer.js';
import { simdArithmetic } from '../../../../src/craft/economy/simd-arithmetic.js';
import {
  EmbeddingsChangedError,
  InvalidProblemError,
  ScoringContractError,
  TrainerStateError,
} from '../../../../src/craft/errors.js';
import { crossEntropy } from '../../../../src/craft/losses.js';
import { accuracy } from '../../../../src/craft/metrics.js';
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
    ['a first view that is not complete', { ...PROBLEM, transforms: 8 }, 7],
    ['one without validation images', { ...PROBLEM, transforms: 8, validationLabels: new Int32Array(0) }, 7],
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

  it.each([2, 3, 4])('has a head of as many transforms as the first view was seen in, of %i', async (transforms) => {
    for (let generations = 1; generations <= transforms + 1; generations++) {
      const { adapter } = await trained({ ...PROBLEM, transforms }, generations);
      const head = adapter.head as EconomyHead;
      expect(head.inputs.transforms).toBe(Math.min(generations, transforms));
      expect(head.shares).toHaveLength(head.inputs.transforms);
    }
  });

  it('uses what each transform of the first view told, also between two choices', async () => {
    const problem = { ...PROBLEM, transforms: 4 };
    const { score } = blackBox(problem);
    const headOf = async (other: number | null) => {
      const trainer = trainerOf(problem);
      const changed: Score = (request, receive) => {
        return score(request.transform === other ? { ...request, view: 7 } : request, receive);
      };
      for (let generation = 0; generation < 3; generation++) await trainer.runGeneration(changed);
      return (await trainer.adapter()).head;
    };
    const head = await headOf(null);
    for (const transform of [0, 1, 2]) expect(await headOf(transform)).not.toEqual(head);
    expect(await headOf(3)).toEqual(head);
  });

  it('chooses no head within the first view that nothing needs', async () => {
    let fits = 0;
    const counted: HeadArithmetic = {
      ...simdArithmetic,
      regression: (problem) => {
        fits++;
        return simdArithmetic.regression(problem);
      },
    };
    const problem = { ...PROBLEM, transforms: 8, validationLabels: new Int32Array(0) };
    const { score } = blackBox(problem);
    const [told, replayed] = [1, 2].map(() => new EconomyTrainer(problem, 1, counted));
    await told.runGeneration(score);
    const first = fits;
    expect(first).toBeGreaterThan(0);
    for (let generation = 2; generation < 8; generation++) await told.runGeneration(score);
    expect(fits).toBe(first);
    for (let generation = 1; generation < 8; generation++) await replayed.replayGeneration(score);
    expect(fits).toBe(first);
    expect(await replayed.adapter()).toEqual(await told.adapter());
    const both = fits;
    await told.adapter();
    expect(fits).toBe(both);
  });

  /** What a head does, from the black box's answers alone. */
  async function figuresOf(problem: EconomyProblem, head: EconomyHead) {
    const { classCount, labels, validationLabels } = problem;
    const answers = async (imageSet: 'training' | 'validation') => {
      const all: Float32Array[] = [];
      for (let transform = 0; transform < head.inputs.transforms; transform++) {
        const request = { imageSet, view: 0, transform } as ScoringRequest;
        await blackBox(problem).score(request, (_, received) => all.push(received));
      }
      return all;
    };
    const prepared = new PreparedHead(head);
    const [seen, held] = [await answers('training'), await answers('validation')].map((all) => prepared.refine(all));
    const validates = validationLabels.length > 0;
    return {
      trainAccuracy: accuracy(seen, labels, classCount),
      headLoss: crossEntropy(seen, labels, classCount),
      validationAccuracy: validates ? accuracy(held, validationLabels, classCount) : null,
      validationLoss: validates ? crossEntropy(held, validationLabels, classCount) : null,
    };
  }

  it.each([
    [1, 7],
    [4, 3],
    [2, 6],
  ])('tells figures of the head as of each generation, of %i transforms', async (transforms, generations) => {
    const problem = { ...PROBLEM, transforms };
    const trainer = trainerOf(problem);
    const { score } = blackBox(problem);
    const losses = new Set<number | null>();
    for (let generation = 1; generation <= generations; generation++) {
      const report = await trainer.runGeneration(score);
      const { head, figures } = await trainer.adapter();
      const own = await figuresOf(problem, head as EconomyHead);
      expect(report).toMatchObject(own);
      expect(figures).toMatchObject(own);
      losses.add(report.validationLoss);
    }
    // One for each head: views are 1 to 7, transforms 1 to 3, or views 1 (of one transform, and of both), 2 and 3.
    expect(losses.size).toBe({ 1: 7, 4: 3, 2: 4 }[transforms]);
  });

  it('has the figures of an adapter that no generation told of, where there are no validation images', async () => {
    const problem = { ...PROBLEM, validationLabels: new Int32Array(0) };
    const { adapter, reports } = await trained(problem, 3);
    expect(adapter.figures).toMatchObject(await figuresOf(problem, adapter.head as EconomyHead));
    expect(adapter.figures?.headLoss).not.toBe(reports[2].headLoss);
    expect(adapter.figures?.heldOutAccuracy).toBe(reports[1].heldOutAccuracy);
    expect((await trainerOf(problem).adapter()).figures).toBeUndefined();
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

  /** Of these many numbers of each image of a set. */
  const ofWidth =
    (problem: EconomyProblem, width: (imageSet: string) => number): Score =>
    async ({ imageSet }, receive) => {
      const { labels, validationLabels } = problem;
      const images = imageSet === 'training' ? labels.length : validationLabels.length;
      receive(0, new Float32Array(images * width(imageSet)));
    };
  const embedded: EconomyProblem = { ...PROBLEM, inputs: { kind: 'embedding' } };

  it.each<[string, EconomyProblem, number]>([
    ['rows that are too short', PROBLEM, 6],
    ['embeddings of fewer numbers than classes', embedded, 2],
  ])('is of no use after %s', async (_, problem, width) => {
    const trainer = trainerOf(problem);
    await expect(trainer.runGeneration(ofWidth(problem, () => width))).rejects.toThrow(ScoringContractError);
    await expect(trainer.runGeneration(ofWidth(problem, () => width))).rejects.toThrow(TrainerStateError);
  });

  it('refuses embeddings of another length, of validation images as of a later view', async () => {
    const others = ofWidth(embedded, (imageSet) => (imageSet === 'training' ? 8 : 9));
    await expect(trainerOf(embedded).runGeneration(others)).rejects.toThrow(EmbeddingsChangedError);

    const trainer = trainerOf(embedded);
    await trainer.runGeneration(blackBox(embedded, 8).score);
    const changed = trainer.runGeneration(ofWidth(embedded, () => 9));
    await expect(changed).rejects.toThrow(EmbeddingsChangedError);
    await expect(changed).rejects.toThrow(/of 6 numbers, after some of \d/);
    await expect(trainer.runGeneration(blackBox(embedded, 8).score)).rejects.toThrow(TrainerStateError);
  });
});
