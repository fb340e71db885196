import { beforeAll, describe, expect, it } from 'vitest';
import { type Compute, selectCompute } from '../../../src/craft/compute.js';
import { CheckpointError } from '../../../src/craft/errors.js';
import { craftHyperparametersSchema } from '../../../src/craft/hyperparameters.js';
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
      start: { ...problem, initialContext: problem.initialContext.map((value) => value + 1) },
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
