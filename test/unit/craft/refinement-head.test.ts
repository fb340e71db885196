import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type AdamOptions, adamStep, initialAdamState } from '../../../src/craft/adam.js';
import { type Compute, selectCompute } from '../../../src/craft/compute.js';
import {
  copyHead,
  HEAD_PARAMETERS,
  type HeadWeights,
  initialHead,
  refineLogits,
} from '../../../src/craft/head-weights.js';
import { headLoss } from '../../../src/craft/losses.js';
import { Random } from '../../../src/craft/random.js';
import { RefinementHead } from '../../../src/craft/refinement-head.js';
import { tensorsHeld } from './tensorflow.js';

const CLASSES = 5;
const HIDDEN = 7;
const ROWS = 9;
const ADAM: AdamOptions = { learningRate: 0.01, beta1: 0.9, beta2: 0.999, epsilon: 1e-8 };

const labels = Int32Array.from({ length: ROWS }, (_, i) => i % CLASSES);
const randomLogits = (rows = ROWS, deviation = 2, label = 'logits') => {
  return Random.stream(1, label).fillNormal(new Float32Array(rows * CLASSES), deviation);
};
const weightsFor = (seed: number) => initialHead(CLASSES, HIDDEN, Random.stream(seed, 'head'));

/** The head loss in double precision, independent of the code under test but for the loss itself. */
function preciseLoss(weights: HeadWeights, logits: Float32Array, weight: number): number {
  const refined = Array.from(logits);
  for (let i = 0; i < ROWS; i++) {
    for (let j = 0; j < HIDDEN; j++) {
      let sum = weights.b1[j];
      for (let c = 0; c < CLASSES; c++) sum += logits[i * CLASSES + c] * weights.w1[c * HIDDEN + j];
      const activation = Math.max(0, sum);
      for (let c = 0; c < CLASSES; c++) refined[i * CLASSES + c] += activation * weights.w2[j * CLASSES + c];
    }
    for (let c = 0; c < CLASSES; c++) refined[i * CLASSES + c] += weights.b2[c];
  }
  return headLoss(logits, refined, labels, CLASSES, weight);
}

describe.each(['simd', 'wasm', 'cpu'] as const)('RefinementHead on %s', (backend) => {
  let compute: Compute;
  beforeAll(async () => {
    compute = await selectCompute(backend);
  });
  afterAll(() => {
    expect(tensorsHeld(compute)).toBe(0);
  });

  const headOf = (weights: HeadWeights) => {
    return new RefinementHead(compute, weights, initialAdamState(CLASSES, HIDDEN));
  };

  it('refines as the plain JavaScript does, without leaking tensors', async () => {
    const head = headOf(weightsFor(1));
    const logits = randomLogits();
    const refined = await head.refine(logits);
    const plain = refineLogits(head.weights(), logits);
    for (let i = 0; i < refined.length; i++) expect(refined[i]).toBeCloseTo(plain[i], 5);
    const held = tensorsHeld(compute);
    await head.refine(logits);
    await head.gradients(logits, labels, 0.1);
    expect(tensorsHeld(compute)).toBe(held);
    head.dispose();
  });

  it.each([0, 0.7])('has the gradients of finite differences, w = %s', async (weight) => {
    const weights = weightsFor(2);
    const logits = randomLogits();
    const head = headOf(weights);
    const { gradients, loss } = await head.gradients(logits, labels, weight);
    head.dispose();
    expect(loss).toBeCloseTo(preciseLoss(weights, logits, weight), 5);
    for (const parameter of HEAD_PARAMETERS) {
      for (let i = 0; i < weights[parameter].length; i++) {
        const at = (step: number) => {
          const moved = copyHead(weights);
          moved[parameter][i] += step;
          return { value: moved[parameter][i], loss: preciseLoss(moved, logits, weight) };
        };
        const above = at(2e-3);
        const below = at(-2e-3);
        const slope = (above.loss - below.loss) / (above.value - below.value);
        expect(Math.abs(gradients[parameter][i] - slope), `${parameter}[${i}]`).toBeLessThan(2e-3);
      }
    }
  });

  it('keeps gradients finite for extreme logits', async () => {
    const head = headOf(weightsFor(3));
    const { gradients, loss } = await head.gradients(randomLogits(ROWS, 1e4), labels, 0.1);
    head.dispose();
    expect(Number.isFinite(loss)).toBe(true);
    for (const parameter of HEAD_PARAMETERS) expect(gradients[parameter].every(Number.isFinite)).toBe(true);
  });

  it('learns the labels', async () => {
    const head = headOf(weightsFor(4));
    const logits = randomLogits();
    const options = { batchSize: 4, consistencyWeight: 0, adam: ADAM };
    const losses: number[] = [];
    for (let epoch = 0; epoch < 150; epoch++) {
      const order = Random.stream(epoch, 'order').permutation(ROWS);
      losses.push(await head.trainEpoch(logits, labels, order, options));
    }
    expect(losses[0]).toBeGreaterThan(1);
    expect(losses[149]).toBeLessThan(0.2);
    head.dispose();
  });

  it('goes on bit for bit from its weights and moments', async () => {
    const options = { batchSize: 4, consistencyWeight: 0.1, adam: ADAM };
    const logits = randomLogits();
    const order = Random.stream(1, 'order').permutation(ROWS);
    const head = headOf(weightsFor(5));
    await head.trainEpoch(logits, labels, order, options);
    const resumed = new RefinementHead(compute, head.weights(), head.adamState());
    await head.trainEpoch(logits, labels, order, options);
    await resumed.trainEpoch(logits, labels, order, options);
    expect(resumed.weights()).toEqual(head.weights());
    expect(resumed.adamState()).toEqual(head.adamState());
    expect(head.adamState().step).toBe(6);
  });
});

describe('initialHead', () => {
  it("draws uniformly within PyTorch's limits", () => {
    const weights = initialHead(4, 100, Random.stream(1, 'head'));
    const largest = (values: Float32Array) => Math.max(...values.map(Math.abs));
    for (const values of [weights.w1, weights.b1]) {
      expect(largest(values)).toBeLessThanOrEqual(0.5);
      expect(largest(values)).toBeGreaterThan(0.45);
    }
    for (const values of [weights.w2, weights.b2]) expect(largest(values)).toBeLessThanOrEqual(0.1);
    expect(largest(weights.w2)).toBeGreaterThan(0.095);
  });
});

describe('adamStep', () => {
  it('takes the steps of the paper', () => {
    const ones = (): HeadWeights => ({
      w1: Float32Array.of(1),
      b1: Float32Array.of(1),
      w2: Float32Array.of(1),
      b2: Float32Array.of(1),
    });
    const weights = ones();
    const state = initialAdamState(1, 1);
    const gradients = { ...ones(), b2: Float32Array.of(-3) };
    adamStep(weights, gradients, state, ADAM);
    // Whatever its gradient, the first step of a weight is the learning rate.
    expect(weights.w1[0]).toBeCloseTo(0.99, 6);
    expect(weights.b2[0]).toBeCloseTo(1.01, 6);
    adamStep(weights, { ...gradients, w1: Float32Array.of(0) }, state, ADAM);
    const first = 0.09 / (1 - 0.9 ** 2);
    const second = (0.999 * 0.001) / (1 - 0.999 ** 2);
    expect(weights.w1[0]).toBeCloseTo(0.99 - (0.01 * first) / Math.sqrt(second), 6);
    expect(state.step).toBe(2);
  });
});
