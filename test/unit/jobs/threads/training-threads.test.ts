import { setTimeout as sleep } from 'node:timers/promises';
import type { Worker } from 'node:worker_threads';
import { afterEach, describe, expect, it } from 'vitest';
import { selectCompute } from '../../../../src/craft/compute.js';
import {
  CheckpointError,
  ComputeUnavailableError,
  InvalidProblemError,
  NonFiniteLogitsError,
  ScoringContractError,
  TrainerStateError,
} from '../../../../src/craft/errors.js';
import { craftHyperparametersSchema } from '../../../../src/craft/hyperparameters.js';
import type { Score } from '../../../../src/craft/trainer.js';
import type { GenerationReport, Trainer } from '../../../../src/craft/trainer-interface.js';
import { openTraining, type TrainingSpec } from '../../../../src/craft/training.js';
import { ThreadLostError, type TrainingThread } from '../../../../src/jobs/threads/training-thread.js';
import { TrainingThreads } from '../../../../src/jobs/threads/training-threads.js';
import { syntheticProblem } from '../../craft/synthetic-problem.js';

const hyperparameters = craftHyperparametersSchema.parse({
  population_size: 6,
  intrinsic_dimension: 5,
  head_hidden_width: 16,
  batch_size: 8,
});

let threads: TrainingThreads | undefined;
afterEach(async () => {
  await threads?.close();
  threads = undefined;
});

function pool(size: number): TrainingThreads {
  threads = new TrainingThreads(size);
  return threads;
}

function training(seed: number): { spec: TrainingSpec & { strategy: 'paper' }; score: Score } {
  const { problem, score } = syntheticProblem({ seed });
  return { spec: { strategy: 'paper', problem, hyperparameters, seed }, score };
}

async function course(trainer: Trainer, score: Score, generations: number) {
  const reports: GenerationReport[] = [];
  for (let i = 0; i < generations; i++) reports.push(await trainer.runGeneration(score));
  return { reports, state: await trainer.serialise(), adapter: await trainer.adapter() };
}

/** Answers after a while, so that generations of several trainers overlap. */
function slowly(score: Score): Score {
  return async (request, receive) => {
    await sleep(2);
    await score(request, receive);
  };
}

/** What nobody but a test wants to see. */
function threadsOf(pooled: TrainingThreads): TrainingThread[] {
  return [...(Reflect.get(pooled, 'all') as Set<TrainingThread>)];
}

describe('a trainer in a thread', () => {
  it('gives the bits of one in this thread, however many others there are', async () => {
    const seeds = [1, 2, 3, 4, 5, 6, 7];
    const compute = await selectCompute('cpu');
    const alone = await Promise.all(
      seeds.map((seed) => {
        const { spec, score } = training(seed);
        return course(openTraining(spec, compute), score, 3);
      }),
    );
    const pooled = pool(2);
    const together = await Promise.all(
      seeds.map(async (seed) => {
        const { spec, score } = training(seed);
        const trainer = await pooled.open(spec, 'cpu');
        const result = await course(trainer, slowly(score), 3);
        expect(trainer.generation).toBe(3);
        return result;
      }),
    );
    expect(together).toEqual(alone);
    expect(threadsOf(pooled)).toHaveLength(2);
  });

  it('goes on from a state bit for bit', async () => {
    const { spec, score } = training(3);
    const pooled = pool(1);
    const first = await pooled.open(spec, 'cpu');
    const { state } = await course(first, score, 2);
    const whole = await course(first, score, 2);
    const second = await pooled.open(spec, 'cpu', state ?? undefined);
    expect(second.generation).toBe(2);
    expect(await course(second, score, 2)).toEqual(whole);
  });

  it('owns the logits that are whole arrays, and copies those that are a part of one', async () => {
    const { spec, score } = training(1);
    const trainer = await pool(1).open(spec, 'cpu');
    const whole: Float32Array[] = [];
    await trainer.runGeneration((request, receive) =>
      score(request, (index, logits) => {
        whole.push(logits);
        receive(index, logits);
      }),
    );
    expect(whole.length).toBeGreaterThan(0);
    expect(whole.every(({ length }) => length === 0)).toBe(true);
    const parts: Float32Array[] = [];
    await trainer.runGeneration((request, receive) =>
      score(request, (index, logits) => {
        const larger = new Float32Array(logits.length + 3).fill(7);
        larger.set(logits);
        parts.push(larger);
        receive(index, larger.subarray(0, logits.length));
      }),
    );
    expect(parts.every((larger) => larger.at(-1) === 7 && larger.length > 3)).toBe(true);
  });

  it('lets out what the black box threw as the very same object', async () => {
    const { spec, score } = training(1);
    const trainer = await pool(1).open(spec, 'cpu');
    await trainer.runGeneration(score);
    class OutOfMoney extends Error {}
    const thrown = new OutOfMoney('no');
    const failing: Score = async (request, receive) => {
      if (request.purpose === 'validation') throw thrown;
      await score(request, receive);
    };
    const caught = await trainer.runGeneration(failing).catch((error: unknown) => error);
    expect(caught).toBe(thrown);
    // The candidates of the second one were judged; it is not complete all the same.
    expect(trainer.generation).toBe(1);
    await expect(trainer.runGeneration(score)).rejects.toBeInstanceOf(TrainerStateError);
  });

  it('tells its own errors in their classes', async () => {
    const { spec, score } = training(1);
    const pooled = pool(1);
    const invalid = { ...spec, problem: { ...spec.problem, labels: Int32Array.of(99) } };
    await expect(pooled.open(invalid, 'cpu')).rejects.toBeInstanceOf(InvalidProblemError);
    await expect(pooled.open(spec, 'cpu', new Uint8Array(100))).rejects.toThrow(
      new CheckpointError('This is not a training checkpoint.'),
    );
    const incomplete = await pooled.open(spec, 'cpu');
    await expect(incomplete.runGeneration(async () => {})).rejects.toThrow(
      new ScoringContractError('Only 0 of 6 prompts were answered.'),
    );
    const nan = await pooled.open(spec, 'cpu');
    const spoilt: Score = (request, receive) =>
      score(request, (index, logits) => receive(index, logits.fill(Number.NaN)));
    await expect(nan.runGeneration(spoilt)).rejects.toBeInstanceOf(NonFiniteLogitsError);
  });

  it('lets whoever scores know that it takes no more', async () => {
    const { spec } = training(1);
    const trainer = await pool(1).open(spec, 'cpu');
    let asked = 0;
    const generation = trainer.runGeneration(async (_request, receive) => {
      for (; asked < 1000; asked++) {
        receive(0, Float32Array.of(1));
        await sleep(5);
      }
    });
    await expect(generation).rejects.toBeInstanceOf(ScoringContractError);
    expect(asked).toBeLessThan(1000);
  });

  it('is freed by its disposal', async () => {
    const { spec, score } = training(1);
    const pooled = pool(1);
    const trainer = await pooled.open(spec, 'cpu');
    trainer.dispose();
    trainer.dispose();
    await expect(trainer.runGeneration(score)).rejects.toThrow('disposed');
    expect(threadsOf(pooled).map(({ load }) => load)).toEqual([0]);
  });
});

describe('a pool of threads', () => {
  it('refuses a backend that cannot be had, and then another one can', async () => {
    const pooled = pool(1);
    await expect(pooled.select('tfjs-node')).rejects.toBeInstanceOf(ComputeUnavailableError);
    const { spec, score } = training(1);
    await expect(pooled.open(spec, 'tfjs-node')).rejects.toBeInstanceOf(ComputeUnavailableError);
    const best = await pooled.select('auto');
    expect(await pooled.select('auto')).toBe(best);
    const trainer = await pooled.open(spec, best);
    expect((await trainer.runGeneration(score)).generation).toBe(1);
    expect(threadsOf(pooled)).toHaveLength(1);
  });

  it('keeps one backend to a thread', async () => {
    const pooled = pool(1);
    const { spec, score } = training(2);
    const results = await Promise.all(
      (['cpu', 'wasm', 'cpu'] as const).map(async (name) => course(await pooled.open(spec, name), score, 2)),
    );
    expect(threadsOf(pooled)).toHaveLength(2);
    expect(results[2]).toEqual(results[0]);
  });

  it('gives the trainers of a thread that dies back once their calls have come home, and replaces it', async () => {
    const pooled = pool(1);
    const { spec, score } = training(1);
    const trainers = await Promise.all([1, 2].map(() => pooled.open(spec, 'cpu')));
    let home = 0;
    const refusals: unknown[] = [];
    const running = trainers.map((trainer) =>
      trainer
        .runGeneration(async (_request, receive) => {
          await sleep(150);
          home++;
          try {
            receive(0, Float32Array.of(1));
          } catch (error) {
            refusals.push(error);
            throw error;
          }
        })
        .catch((error: unknown) => error),
    );
    await sleep(50);
    await (Reflect.get(threadsOf(pooled)[0], 'worker') as Worker).terminate();
    const errors = await Promise.all(running);
    expect(errors.every((error) => error instanceof ThreadLostError)).toBe(true);
    expect(refusals).toEqual(errors);
    expect(home).toBe(2);
    await expect(trainers[0].serialise()).rejects.toBeInstanceOf(ThreadLostError);
    const next = await pooled.open(spec, 'cpu');
    expect((await next.runGeneration(score)).generation).toBe(1);
  });
});
