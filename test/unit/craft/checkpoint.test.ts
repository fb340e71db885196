import { createHash } from 'node:crypto';
import { beforeAll, describe, expect, it } from 'vitest';
import { decodeCheckpoint, encodeCheckpoint } from '../../../src/craft/checkpoint.js';
import { type Compute, selectCompute } from '../../../src/craft/compute.js';
import { CheckpointError } from '../../../src/craft/errors.js';
import { craftHyperparametersSchema } from '../../../src/craft/hyperparameters.js';
import { RANDOM_STATE_LENGTH } from '../../../src/craft/random.js';
import { CraftTrainer } from '../../../src/craft/trainer.js';
import { syntheticProblem } from './synthetic-problem.js';

const hyperparameters = craftHyperparametersSchema.parse({
  intrinsic_dimension: 20,
  population_size: 6,
  head_hidden_width: 8,
});
const { problem, score } = syntheticProblem();
let compute: Compute;
let bytes: Uint8Array;
const restore = (changed = bytes) => CraftTrainer.restore(changed, problem, hyperparameters, 1, compute);

beforeAll(async () => {
  compute = await selectCompute('cpu');
  const trainer = CraftTrainer.create(problem, hyperparameters, 1, compute);
  await trainer.runGeneration(score);
  bytes = await trainer.serialise();
});

describe('checkpoint', () => {
  it('comes back as it went, from any offset of a larger buffer', async () => {
    expect(await restore().serialise()).toEqual(bytes);
    const shifted = new Uint8Array(bytes.length + 3);
    shifted.set(bytes, 3);
    expect(await restore(shifted.subarray(3)).serialise()).toEqual(bytes);
  });

  it('stores two triangles and little else', () => {
    expect(bytes.length).toBeLessThan(8 * 20 * 21 + 8000);
  });

  it('notices any changed byte', () => {
    for (let position = 0; position < bytes.length; position += 97) {
      const damaged = bytes.slice();
      damaged[position] ^= 1;
      expect(() => restore(damaged), `byte ${position}`).toThrow(CheckpointError);
    }
  });

  it.each([0, 7, 20, 43, 44, 500])('rejects the first %i bytes alone', (length) => {
    expect(() => restore(bytes.slice(0, length))).toThrow(CheckpointError);
  });

  it('names another version', () => {
    const future = bytes.slice();
    future[8] = 2;
    expect(() => restore(future)).toThrow(/version 2.*reads version 1/);
  });

  it('belongs to its problem, hyperparameters and seed', () => {
    const others = {
      problem: { ...problem, labels: problem.labels.toReversed() },
      planned: { ...problem, plannedGenerations: 7 },
      start: {
        ...problem,
        prompt: { ...problem.prompt, initialContext: problem.prompt.initialContext.map((value) => value + 1) },
      },
    };
    for (const other of Object.values(others)) {
      expect(() => CraftTrainer.restore(bytes, other, hyperparameters, 1, compute)).toThrow(/another training problem/);
    }
    const heavier = { ...hyperparameters, consistency_weight: 0.2 };
    expect(() => CraftTrainer.restore(bytes, problem, heavier, 1, compute)).toThrow(/other hyperparameters/);
    expect(() => CraftTrainer.restore(bytes, problem, hyperparameters, 2, compute)).toThrow(/another seed/);
  });

  it('does not mind the order in which hyperparameters are written', () => {
    const reordered = Object.fromEntries(Object.entries(hyperparameters).reverse()) as typeof hyperparameters;
    expect(CraftTrainer.restore(bytes, problem, reordered, 1, compute).generation).toBe(1);
  });
});

describe('the checkpoint of a soft prompt', () => {
  const quarters = (length: number) => Float32Array.from({ length }, (_, i) => i / 4);
  const halves = (length: number) => Float64Array.from({ length }, (_, i) => i / 2);
  const head = { w1: quarters(6), b1: quarters(2), w2: quarters(6), b2: quarters(3) };
  const state = {
    generation: 4,
    search: {
      mean: halves(3),
      covariancePath: halves(3),
      stepSizePath: halves(3),
      covariance: halves(6),
      factor: halves(6),
      scalars: halves(3 + RANDOM_STATE_LENGTH),
    },
    head,
    adam: { first: head, second: head, step: 8 },
  };
  const identity = {
    problem: {
      classCount: 3,
      labels: Int32Array.of(0, 1, 2),
      validationLabels: Int32Array.of(1),
      prompt: { space: 'soft', contextTokens: 2, contextWidth: 4, initialContext: quarters(8) },
      plannedGenerations: 6,
    },
    hyperparameters: craftHyperparametersSchema.parse({
      intrinsic_dimension: 3,
      population_size: 6,
      head_hidden_width: 2,
    }),
    seed: 5,
  } as const;

  it('has not changed by a bit since there are prompts of other kinds', () => {
    const digest = createHash('sha256').update(encodeCheckpoint(state, identity)).digest('hex');
    expect(digest).toBe('61c416d68465140a4e7280bf4f68c2d54b331e001b428d9f648275f64aa9ae01');
  });

  it('holds the whole state', () => {
    expect(decodeCheckpoint(encodeCheckpoint(state, identity), identity)).toEqual(state);
  });

  it('is refused without a part of the search', () => {
    const { factor: _, ...search } = state.search;
    const bytes = encodeCheckpoint({ ...state, search }, identity);
    expect(() => decodeCheckpoint(bytes, identity)).toThrow(/lacks "search.factor" as F64 \[6\]/);
  });

  it('is none of a text prompt', () => {
    const prompt = {
      space: 'text',
      startTemplate: 'a {}.',
      templates: [] as string[],
      words: [] as string[],
      descriptions: false,
    } as const;
    const textual = { ...identity, problem: { ...identity.problem, prompt } };
    expect(() => decodeCheckpoint(encodeCheckpoint(state, identity), textual)).toThrow(/another training problem/);
  });
});
