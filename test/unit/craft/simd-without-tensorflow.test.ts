import { expect, it, vi } from 'vitest';
import { selectCompute } from '../../../src/craft/compute.js';
import { craftHyperparametersSchema } from '../../../src/craft/hyperparameters.js';
import { openTraining } from '../../../src/craft/training.js';
import { syntheticProblem } from './synthetic-problem.js';

const loaded = vi.hoisted(() => [] as string[]);
vi.mock('@tensorflow/tfjs-core', () => {
  loaded.push('tfjs-core');
  throw new Error('TensorFlow.js was loaded.');
});

it('trains with its own kernels without loading TensorFlow.js', async () => {
  const { problem, score } = syntheticProblem();
  const hyperparameters = craftHyperparametersSchema.parse({ intrinsic_dimension: 6, population_size: 8 });
  const compute = await selectCompute('auto');
  const trainer = openTraining({ strategy: 'paper', problem, hyperparameters, seed: 1 }, compute);
  expect((await trainer.runGeneration(score)).generation).toBe(1);
  expect(loaded).toEqual([]);
  await expect(selectCompute('cpu')).rejects.toThrow();
  expect(loaded).toEqual(['tfjs-core']);
});
