import { beforeAll, describe, expect, it, vi } from 'vitest';
import { type Compute, selectCompute } from '../../../src/craft/compute.js';
import {
  InvalidProblemError,
  NonFiniteLogitsError,
  ScoringContractError,
  TrainerStateError,
  TrainingDivergedError,
} from '../../../src/craft/errors.js';
import { type HeadWeights, refineLogits } from '../../../src/craft/head-weights.js';
import { type CraftHyperparametersInput, craftHyperparametersSchema } from '../../../src/craft/hyperparameters.js';
import { accuracy } from '../../../src/craft/metrics.js';
import { RefinementHead } from '../../../src/craft/refinement-head.js';
import { CraftTrainer, type Score, type ScoringRequest } from '../../../src/craft/trainer.js';
import type { GenerationReport } from '../../../src/craft/trainer-interface.js';
import { contextsOf, type SyntheticOptions, syntheticProblem } from './synthetic-problem.js';
import { tensorsHeld } from './tensorflow.js';

const small = (input: CraftHyperparametersInput = {}) => {
  return craftHyperparametersSchema.parse({
    intrinsic_dimension: 6,
    population_size: 8,
    head_hidden_width: 16,
    batch_size: 16,
    ...input,
  });
};

async function run(trainer: CraftTrainer, score: Score, until = 6): Promise<GenerationReport[]> {
  const reports: GenerationReport[] = [];
  while (trainer.generation < until) reports.push(await trainer.runGeneration(score));
  return reports;
}

let compute: Compute;
const create = (options: SyntheticOptions = {}, input: CraftHyperparametersInput = {}, seed = 3) => {
  const { problem, score } = syntheticProblem(options);
  return { problem, score, trainer: CraftTrainer.create(problem, small(input), seed, compute) };
};

describe.each(['simd', 'wasm', 'cpu'] as const)('CraftTrainer on %s', (backend) => {
  beforeAll(async () => {
    compute = await selectCompute(backend);
  });

  it('repeats itself bit for bit with the same seed, and only then', async () => {
    const outcomes = [];
    for (const seed of [3, 3, 4]) {
      const { trainer, score } = create({}, {}, seed);
      outcomes.push({ reports: await run(trainer, score), adapter: await trainer.adapter() });
      trainer.dispose();
    }
    expect(outcomes[1]).toEqual(outcomes[0]);
    expect(outcomes[2]).not.toEqual(outcomes[0]);
  });

  it('goes on from a checkpoint bit for bit', async () => {
    const { trainer, score, problem } = create();
    await run(trainer, score, 3);
    const bytes = await trainer.serialise();
    const resumed = CraftTrainer.restore(bytes, problem, small(), 3, compute);
    expect(resumed.generation).toBe(3);
    expect(await run(resumed, score)).toEqual(await run(trainer, score));
    expect(await resumed.adapter()).toEqual(await trainer.adapter());
    expect(await resumed.serialise()).toEqual(await trainer.serialise());
    trainer.dispose();
    resumed.dispose();
    expect(tensorsHeld(compute)).toBe(0);
  });

  it('does not care in which order prompts are answered', async () => {
    const reversed = (score: Score): Score => {
      return async (request, receive) => {
        const answers: [number, Float32Array][] = [];
        await score(request, (index, logits) => answers.push([index, logits]));
        for (const [index, logits] of answers.reverse()) {
          await Promise.resolve();
          receive(index, logits);
        }
      };
    };
    const straight = create();
    const backward = create();
    const reports = await run(straight.trainer, straight.score);
    expect(await run(backward.trainer, reversed(backward.score))).toEqual(reports);
  });
});

describe('CraftTrainer', () => {
  beforeAll(async () => {
    compute = await selectCompute('wasm');
  });

  it('asks for the candidates, then the centre, then the centre on the validation images', async () => {
    const { trainer, score } = create();
    const requests: ScoringRequest[] = [];
    const report = await trainer.runGeneration((request, receive) => {
      requests.push(request);
      return score(request, receive);
    });
    const summary = requests.map(({ purpose, imageSet, prompts }) => [purpose, imageSet, prompts.count]);
    expect(summary).toEqual([
      ['candidates', 'training', 8],
      ['centre', 'training', 1],
      ['validation', 'validation', 1],
    ]);
    expect(contextsOf(requests[0].prompts)).toHaveLength(8 * 8);
    expect((await trainer.adapter()).prompt).toEqual({
      space: 'soft',
      contextTokens: 2,
      contextWidth: 4,
      context: contextsOf(requests[1].prompts),
    });
    expect(report.template).toBeNull();
    expect(requests[2].prompts).toEqual(requests[1].prompts);
    expect(report).toMatchObject({ generation: 1, candidateEvaluations: 8 });
  });

  it('waits for the centre on both image sets at once', async () => {
    const { trainer, score } = create();
    let both = () => {};
    const bothAsked = new Promise<void>((resolve) => {
      both = resolve;
    });
    const report = await trainer.runGeneration(async (request, receive) => {
      if (request.purpose === 'validation') both();
      if (request.purpose !== 'candidates') await bothAsked;
      await score(request, receive);
    });
    expect(report.validationAccuracy).not.toBeNull();
  });

  it.each(['centre', 'validation'] as const)('leaves nothing in flight when the %s fails', async (failing) => {
    const { trainer, score } = create();
    let inFlight = 0;
    const generation = trainer.runGeneration(async (request, receive) => {
      if (request.purpose === failing) throw new Error('out of order');
      inFlight++;
      await new Promise((resolve) => setTimeout(resolve, 20));
      await score(request, receive);
      inFlight--;
    });
    await expect(generation).rejects.toThrow('out of order');
    expect(inFlight).toBe(0);
  });

  it('does without validation images', async () => {
    const { trainer, score } = create({ validationPerClass: 0 });
    const purposes: string[] = [];
    const report = await trainer.runGeneration((request, receive) => {
      purposes.push(request.purpose);
      return score(request, receive);
    });
    expect(purposes).toEqual(['candidates', 'centre']);
    expect(report).toMatchObject({ validationAccuracy: null, validationLoss: null });
  });

  it('learns: the black box gets better, and the head adds to it', async () => {
    const { trainer, score, problem } = create({ plannedGenerations: 60 }, { head_learning_rate: 0.01 });
    const reports = await run(trainer, score, 60);
    const [first, last] = [reports[0], reports[reports.length - 1]];
    expect(last.blackBoxTrainAccuracy).toBeGreaterThan(first.blackBoxTrainAccuracy);
    expect(last.trainAccuracy).toBeGreaterThan(0.95);
    expect(last.centreLoss).toBeLessThan(0.7 * first.centreLoss);
    expect(last.headLoss).toBeLessThan(0.5 * first.headLoss);
    expect(last.bestFitness).toBeLessThan(last.meanFitness as number);
    expect(last.candidateEvaluations).toBe(480);

    const adapter = await trainer.adapter();
    let logits = new Float32Array();
    if (adapter.prompt.space !== 'soft') throw new TypeError('This is no soft prompt.');
    const prompts = { kind: 'context', count: 1, values: adapter.prompt.context } as const;
    await score({ purpose: 'validation', imageSet: 'validation', prompts }, (_, received) => {
      logits = received as Float32Array<ArrayBuffer>;
    });
    const refined = refineLogits(adapter.head as HeadWeights, logits);
    expect(accuracy(refined, problem.validationLabels, adapter.classCount)).toBe(last.validationAccuracy);
  });

  it('switches the KL term of the head off once the share of the budget is spent', async () => {
    const activity = async (consistency_switch: number) => {
      const { trainer, score } = create({ plannedGenerations: 8 }, { consistency_switch });
      return (await run(trainer, score, 8)).map((report) => report.consistencyActive);
    };
    expect(await activity(4)).toEqual([true, true, false, false, false, false, false, false]);
    expect(await activity(1)).toEqual(new Array(8).fill(true));
  });

  it('takes the KL term out of the head loss when it is off, and leaves it in the fitness', async () => {
    const lossesWith = async (consistency_switch: number) => {
      const { trainer, score } = create({}, { consistency_switch, consistency_weight: 2 });
      const [{ headLoss, bestFitness }] = await run(trainer, score, 1);
      return { headLoss, bestFitness };
    };
    const [on, off] = [await lossesWith(1), await lossesWith(1000)];
    expect(off.headLoss).toBeLessThan(on.headLoss);
    expect(off.bestFitness).toBe(on.bestFitness);
  });

  it('shuffles the images anew for each epoch of each generation', async () => {
    const epochs = vi.spyOn(RefinementHead.prototype, 'trainEpoch');
    const { trainer, score } = create({}, { head_epochs_per_generation: 2 });
    await run(trainer, score, 2);
    const orders = epochs.mock.calls.map(([, , order]) => order.join());
    epochs.mockRestore();
    expect(orders).toHaveLength(4);
    expect(new Set(orders).size).toBe(4);
  });

  it('lets the weight of consistency matter', async () => {
    const light = create({}, { consistency_weight: 0 });
    const heavy = create({}, { consistency_weight: 2 });
    const [a] = await run(light.trainer, light.score, 1);
    const [b] = await run(heavy.trainer, heavy.score, 1);
    expect(b.bestFitness).toBeGreaterThan(a.bestFitness as number);
    expect(b.headLoss).toBeGreaterThan(a.headLoss);
  });

  it('trains the head as many epochs as it is told', async () => {
    const once = create();
    const often = create({}, { head_epochs_per_generation: 20 });
    const [a] = await run(once.trainer, once.score, 1);
    const [b] = await run(often.trainer, often.score, 1);
    expect(b.headLoss).toBeLessThan(a.headLoss);
  });

  it('keeps what comes after one generation the same when a failed one is repeated from the checkpoint', async () => {
    const { trainer, score, problem } = create();
    await run(trainer, score, 2);
    const bytes = await trainer.serialise();
    const asked: Float32Array[] = [];
    const failing: Score = async (request) => {
      asked.push(contextsOf(request.prompts));
      throw new Error('the network is gone');
    };
    await expect(trainer.runGeneration(failing)).rejects.toThrow('the network is gone');
    await expect(trainer.runGeneration(score)).rejects.toThrow(TrainerStateError);
    await expect(trainer.serialise()).rejects.toThrow(/restore/);
    const resumed = CraftTrainer.restore(bytes, problem, small(), 3, compute);
    await expect(resumed.runGeneration(failing)).rejects.toThrow('the network is gone');
    expect(asked[1]).toEqual(asked[0]);
    expect(tensorsHeld(compute)).toBe(0);
  });

  it('refuses to run twice at once, and goes on past the planned generations', async () => {
    const { trainer, score } = create({ plannedGenerations: 1 });
    const running = trainer.runGeneration(score);
    await expect(trainer.runGeneration(score)).rejects.toThrow(/running/);
    await running;
    expect((await trainer.runGeneration(score)).generation).toBe(2);
  });

  it.each(['simd', 'wasm', 'cpu'] as const)('says so when the head diverges on %s', async (backend) => {
    const { problem, score } = syntheticProblem();
    const wild = { ...small(), head_learning_rate: 1e30 };
    const trainer = CraftTrainer.create(problem, wild, 3, await selectCompute(backend));
    await expect(trainer.runGeneration(score)).rejects.toThrow(TrainingDivergedError);
  });

  const broken: [string, new (message: string) => Error, (score: Score) => Score][] = [
    ['a missing answer', ScoringContractError, () => async () => {}],
    [
      'a repeated answer',
      ScoringContractError,
      (score) => async (request, receive) => {
        await score(request, (index, logits) => {
          receive(index, logits);
          receive(index, logits);
        });
      },
    ],
    [
      'an index out of range',
      ScoringContractError,
      (score) => (request, receive) => {
        return score(request, (index, logits) => receive(index + 1, logits));
      },
    ],
    [
      'too few logits',
      ScoringContractError,
      (score) => (request, receive) => {
        return score(request, (index, logits) => receive(index, logits.subarray(1)));
      },
    ],
    [
      'a logit that is NaN',
      NonFiniteLogitsError,
      (score) => (request, receive) => {
        return score(request, (index, logits) => receive(index, logits.with(7, Number.NaN)));
      },
    ],
    [
      'an infinite logit that the caller swallows',
      NonFiniteLogitsError,
      (score) => async (request, receive) => {
        await score(request, (index, logits) => {
          try {
            receive(index, logits.with(7, Number.NEGATIVE_INFINITY));
          } catch {
            // The caller swallows it; the trainer must not.
          }
        });
      },
    ],
  ];
  it.each(broken)('rejects %s', async (_, error, breaker) => {
    const { trainer, score } = create();
    await expect(trainer.runGeneration(breaker(score))).rejects.toThrow(error);
  });

  it('names the image and class of a bad logit', async () => {
    const { trainer, score } = create();
    const attempt = trainer.runGeneration((request, receive) => {
      return score(request, (index, logits) => receive(index, logits.with(7, Number.NaN)));
    });
    await expect(attempt).rejects.toThrow('prompt 0, image 1, class 2 is NaN');
  });

  it.each([
    { classCount: 1 },
    { classCount: 2.5 },
    { labels: new Int32Array(0) },
    { labels: Int32Array.of(0, 5) },
    { labels: Int32Array.of(0, -1) },
    { validationLabels: Int32Array.of(9) },
    { plannedGenerations: 0 },
  ])('rejects the problem with %j', (change) => {
    const { problem } = syntheticProblem();
    expect(() => CraftTrainer.create({ ...problem, ...change }, small(), 1, compute)).toThrow(InvalidProblemError);
  });

  it.each([{ contextTokens: 3 }, { contextWidth: 0 }, { initialContext: new Float32Array(8).fill(Number.NaN) }])(
    'rejects the soft prompt with %j',
    (change) => {
      const { problem } = syntheticProblem();
      const changed = { ...problem, prompt: { ...problem.prompt, ...change } };
      expect(() => CraftTrainer.create(changed, small(), 1, compute)).toThrow(InvalidProblemError);
    },
  );
});
