import { describe, expect, it } from 'vitest';
import { boundOf, craftHyperparametersSchema } from '../../../src/craft/hyperparameters.js';

describe('hyperparameters', () => {
  it('default to the constants of the reference configurations', () => {
    expect(craftHyperparametersSchema.parse({})).toEqual({
      intrinsic_dimension: 512,
      population_size: 40,
      initial_step_size: 1,
      projection_std: 0.2,
      bound: 5,
      consistency_weight: 0.1,
      prompt_consistency_weight: null,
      consistency_switch: 4,
      head_hidden_width: 256,
      head_learning_rate: 1e-3,
      adam_beta1: 0.9,
      adam_beta2: 0.999,
      adam_epsilon: 1e-8,
      batch_size: 256,
      head_epochs_per_generation: 1,
    });
  });

  it.each([
    { intrinsic_dimension: 0 },
    { intrinsic_dimension: 2001 },
    { intrinsic_dimension: 1.5 },
    { population_size: 3 },
    { population_size: 1001 },
    { initial_step_size: 0 },
    { initial_step_size: NaN },
    { initial_step_size: Infinity },
    { projection_std: -1 },
    { bound: -1 },
    { bound: NaN },
    { consistency_weight: -0.1 },
    { consistency_switch: 0.5 },
    { head_hidden_width: 0 },
    { head_learning_rate: 0 },
    { adam_beta1: 1 },
    { adam_beta2: -0.1 },
    { adam_epsilon: 0 },
    { batch_size: 0 },
    { head_epochs_per_generation: 0 },
    { population_size: '40' },
    { popsize: 40 },
  ])('reject %j', (input) => {
    expect(craftHyperparametersSchema.safeParse(input).success).toBe(false);
  });

  it('take 0 and null as no bounds', () => {
    const bounds = [0, null, 2].map((bound) => boundOf(craftHyperparametersSchema.parse({ bound })));
    expect(bounds).toEqual([null, null, 2]);
  });

  it('each have a description', () => {
    for (const [name, field] of Object.entries(craftHyperparametersSchema.shape)) {
      expect(field.description, name).toMatch(/\.$/);
    }
  });
});
