import fc from 'fast-check';
import { beforeAll, describe, expect, it } from 'vitest';
import { type AdamState, adamStep, initialAdamState } from '../../../src/craft/adam.js';
import type { TensorFlowCompute } from '../../../src/craft/compute.js';
import { GpuHead } from '../../../src/craft/gpu-head.js';
import type { HeadBackend } from '../../../src/craft/head-backend.js';
import {
  copyHead,
  HEAD_PARAMETERS,
  type HeadParameter,
  type HeadWeights,
  initialHead,
  mapHead,
} from '../../../src/craft/head-weights.js';
import { headLoss } from '../../../src/craft/losses.js';
import { Random } from '../../../src/craft/random.js';
import { SimdHead } from '../../../src/craft/simd-head.js';
import { TensorFlowHead } from '../../../src/craft/tensorflow-head.js';
import { Float32Kernels } from '../../../src/craft/wasm/float32-kernels.js';
import { tensorFlow } from '../../unit/craft/tensorflow.js';

const ADAM = { learningRate: 0.01, beta1: 0.9, beta2: 0.999, epsilon: 1e-8 };

interface Case {
  classCount: number;
  hiddenWidth: number;
  rows: number;
  consistencyWeight: number;
  deviation: number;
  seed: number;
}

const cases = (most: { classCount: number; hiddenWidth: number; rows: number }) => {
  return fc.record<Case>({
    classCount: fc.oneof(fc.constantFrom(2, 3, 22), fc.integer({ min: 2, max: most.classCount })),
    hiddenWidth: fc.integer({ min: 1, max: most.hiddenWidth }),
    rows: fc.integer({ min: 1, max: most.rows }),
    consistencyWeight: fc.constantFrom(0, 0.1, 1.5),
    deviation: fc.constantFrom(0.3, 3, 20),
    seed: fc.integer(),
  });
};

function prepare({ classCount, hiddenWidth, rows, deviation, seed }: Case) {
  const random = Random.stream(seed, 'case');
  return {
    logits: random.fillNormal(new Float32Array(rows * classCount), deviation),
    labels: Int32Array.from({ length: rows }, () => random.integer(classCount)),
    weights: initialHead(classCount, hiddenWidth, random),
  };
}

const largest = (values: Float32Array) => values.reduce((most, value) => Math.max(most, Math.abs(value)), 0);

/** The largest difference as a share of the largest expected value, or of what that is made of where it is larger. */
function distance(actual: ArrayLike<number>, expected: ArrayLike<number>, ingredients = 0): number {
  expect(actual.length).toBe(expected.length);
  let worst = 0;
  let scale = ingredients;
  for (let i = 0; i < expected.length; i++) {
    // NaN on one side is as far away as can be.
    const difference = Math.abs(actual[i] - expected[i]);
    worst = Number.isNaN(difference) ? Number.POSITIVE_INFINITY : Math.max(worst, difference);
    scale = Math.max(scale, Math.abs(expected[i]));
  }
  return worst === 0 ? 0 : worst / scale;
}

/** Whether a hidden unit is so close to the kink of ReLU that backends may rightly differ about the gradient of its row. */
function isNearKink(sample: Case): boolean {
  const { logits, weights } = prepare(sample);
  const { classCount, hiddenWidth } = sample;
  for (let start = 0; start < logits.length; start += classCount) {
    for (let j = 0; j < hiddenWidth; j++) {
      let sum = weights.b1[j];
      for (let c = 0; c < classCount; c++) sum += logits[start + c] * weights.w1[c * hiddenWidth + j];
      if (Math.abs(sum) < 1e-5 * sample.deviation) return true;
    }
  }
  return false;
}

/** The loss in double precision. */
function preciseLoss(
  weights: Record<HeadParameter, ArrayLike<number>>,
  logits: Float32Array,
  labels: Int32Array,
  weight: number,
): number {
  const classCount = weights.b2.length;
  const hiddenWidth = weights.b1.length;
  const refined = Array.from(logits);
  for (let start = 0; start < logits.length; start += classCount) {
    for (let j = 0; j < hiddenWidth; j++) {
      let sum = weights.b1[j];
      for (let c = 0; c < classCount; c++) sum += logits[start + c] * weights.w1[c * hiddenWidth + j];
      for (let c = 0; c < classCount; c++) refined[start + c] += Math.max(0, sum) * weights.w2[j * classCount + c];
    }
    for (let c = 0; c < classCount; c++) refined[start + c] += weights.b2[c];
  }
  return headLoss(logits, refined, labels, classCount, weight);
}

describe('RefinementHead backends', () => {
  let compute: TensorFlowCompute;
  beforeAll(async () => {
    compute = await tensorFlow('cpu');
  });

  const agree = async (open: (weights: HeadWeights, adam: AdamState) => HeadBackend, sample: Case) => {
    const { logits, labels, weights } = prepare(sample);
    const adam = initialAdamState(sample.classCount, sample.hiddenWidth);
    const head = open(weights, adam);
    const reference = new TensorFlowHead(compute, weights, adam);
    expect(distance(await head.refine(logits), await reference.refine(logits))).toBeLessThan(1e-5);
    const loss = await reference.promptLoss(logits, labels, sample.consistencyWeight);
    const ownLoss = await head.promptLoss(logits, labels, sample.consistencyWeight);
    expect(Math.abs(ownLoss - loss)).toBeLessThan(1e-5 * (1 + loss));
    const own = await head.gradients(logits, labels, sample.consistencyWeight);
    const expected = await reference.gradients(logits, labels, sample.consistencyWeight);
    expect(Math.abs(own.loss - expected.loss)).toBeLessThan(1e-5 * (1 + expected.loss));
    for (const parameter of HEAD_PARAMETERS) {
      const ingredients = parameter.startsWith('w') ? 0.01 * largest(logits) : 0.01;
      const apart = distance(own.gradients[parameter], expected.gradients[parameter], ingredients);
      expect(apart, parameter).toBeLessThan(1e-4);
    }
    for (const backend of [head, reference]) backend.dispose();
    expect(compute.tf.memory().numTensors).toBe(0);
  };
  const simd = (weights: HeadWeights, adam: AdamState) => new SimdHead(weights, adam);
  // The arithmetic of GPUs, if not on one.
  const gpu = (weights: HeadWeights, adam: AdamState) => new GpuHead(compute, weights, adam);

  describe.each([
    { name: 'SimdHead', open: simd },
    { name: 'GpuHead', open: gpu },
  ])('$name', ({ open }) => {
    it('agrees with TensorFlow.js on refined logits, losses and gradients of any shape', async () => {
      const any = cases({ classCount: 60, hiddenWidth: 40, rows: 37 });
      await fc.assert(
        fc.asyncProperty(any, (sample) => {
          fc.pre(!isNearKink(sample));
          return agree(open, sample);
        }),
        { numRuns: 80 },
      );
    });

    it.each([
      { classCount: 1000, hiddenWidth: 64, rows: 33 },
      { classCount: 100, hiddenWidth: 256, rows: 130 },
      { classCount: 22, hiddenWidth: 256, rows: 257 },
    ])('agrees with TensorFlow.js for $classCount classes', async (shape) => {
      for (const consistencyWeight of [0, 0.5]) {
        await agree(open, { ...shape, consistencyWeight, deviation: 2, seed: 7 });
      }
    });
  });

  it('keeps to its backend of TensorFlow.js while another head in the thread uses another', async () => {
    const sample = { classCount: 22, hiddenWidth: 32, rows: 20, consistencyWeight: 0.1, deviation: 2, seed: 1 };
    const { logits, labels, weights } = prepare(sample);
    const rows = Uint32Array.from({ length: sample.rows }, (_, i) => i);
    const open = (on: TensorFlowCompute) => {
      return new TensorFlowHead(on, weights, initialAdamState(sample.classCount, sample.hiddenWidth));
    };
    const wasm = await tensorFlow('wasm');
    const alone = open(wasm);
    for (let i = 0; i < 3; i++) await alone.step(logits, labels, rows, 0.1, ADAM);
    const other = open(compute);
    for (let i = 0; i < 3; i++) await other.step(logits, labels, rows, 0.1, ADAM);
    expect(other.weights()).not.toEqual(alone.weights());
    const together = [open(wasm), open(compute)];
    for (let i = 0; i < 3; i++) await Promise.all(together.map((head) => head.step(logits, labels, rows, 0.1, ADAM)));
    expect(together[0].weights()).toEqual(alone.weights());
    expect(together[1].weights()).toEqual(other.weights());
    for (const head of [alone, other, ...together]) head.dispose();
  });

  it('has the slope of the loss in every direction', async () => {
    await fc.assert(
      fc.asyncProperty(cases({ classCount: 12, hiddenWidth: 9, rows: 11 }), fc.integer(), async (sample, other) => {
        const { logits, labels, weights } = prepare({ ...sample, deviation: 1 });
        const simd = new SimdHead(weights, initialAdamState(sample.classCount, sample.hiddenWidth));
        const { gradients, loss } = await simd.gradients(logits, labels, sample.consistencyWeight);
        expect(loss).toBeCloseTo(preciseLoss(weights, logits, labels, sample.consistencyWeight), 5);
        const direction = initialHead(sample.classCount, sample.hiddenWidth, Random.stream(other, 'direction'));
        const moved = (step: number) => {
          const at = (parameter: HeadParameter) => {
            return Float64Array.from(weights[parameter], (w, i) => w + step * direction[parameter][i]);
          };
          const there = { w1: at('w1'), b1: at('b1'), w2: at('w2'), b2: at('b2') };
          return preciseLoss(there, logits, labels, sample.consistencyWeight);
        };
        let slope = 0;
        for (const parameter of HEAD_PARAMETERS) {
          gradients[parameter].forEach((g, i) => {
            slope += g * direction[parameter][i];
          });
        }
        // So short a way that a kink of ReLU on it is not to be met.
        const h = 1e-7;
        expect(Math.abs((moved(h) - moved(-h)) / (2 * h) - slope)).toBeLessThan(1e-4 * (1 + Math.abs(slope)));
      }),
      { numRuns: 80 },
    );
  });

  it('takes the step of Adam that plain JavaScript takes along its gradients', async () => {
    await fc.assert(
      fc.asyncProperty(cases({ classCount: 30, hiddenWidth: 20, rows: 20 }), async (sample) => {
        const { logits, labels, weights } = prepare(sample);
        const simd = new SimdHead(weights, initialAdamState(sample.classCount, sample.hiddenWidth));
        const rows = Uint32Array.from({ length: sample.rows }, (_, i) => sample.rows - 1 - i);
        for (let step = 0; step < 3; step++) {
          const before = { weights: simd.weights(), adam: simd.adamState() };
          const loss = await simd.step(logits, labels, rows, sample.consistencyWeight, ADAM);
          // The batch in another order, from the same weights: its gradients differ by rounding.
          const same = new SimdHead(before.weights, before.adam);
          const reversed = { logits: new Float32Array(logits.length), labels: labels.slice().reverse() };
          const { classCount } = sample;
          rows.forEach((row, i) => {
            reversed.logits.set(logits.subarray(row * classCount, (row + 1) * classCount), i * classCount);
          });
          const { gradients, loss: expected } = await same.gradients(
            reversed.logits,
            reversed.labels,
            sample.consistencyWeight,
          );
          expect(loss).toBe(expected);
          const held = mapHead((parameter) => before.adam.first[parameter].slice());
          adamStep(before.weights, gradients, before.adam, ADAM);
          expect(simd.adamState().step).toBe(before.adam.step);
          for (const parameter of HEAD_PARAMETERS) {
            const { first, second } = simd.adamState();
            const ingredients = Math.max(largest(held[parameter]), largest(gradients[parameter]));
            expect(distance(first[parameter], before.adam.first[parameter], ingredients)).toBeLessThan(1e-6);
            expect(distance(second[parameter], before.adam.second[parameter])).toBeLessThan(2e-6);
            const after = simd.weights()[parameter];
            const worst = after.reduce((most, w, i) => Math.max(most, Math.abs(w - before.weights[parameter][i])), 0);
            expect(worst).toBeLessThan(1e-6);
          }
        }
      }),
      { numRuns: 40 },
    );
  });

  it('lets the moments of a hidden unit that never fires end at zero, not at subnormal numbers', async () => {
    const sample = { classCount: 5, hiddenWidth: 8, rows: 6, consistencyWeight: 0, deviation: 1, seed: 3 };
    const { logits, labels, weights } = prepare(sample);
    weights.b1.fill(-1e6);
    const adam = initialAdamState(sample.classCount, sample.hiddenWidth);
    adam.first.w1.fill(1e-3);
    const head = new SimdHead(weights, adam);
    const rows = Uint32Array.from({ length: sample.rows }, (_, i) => i);
    for (let i = 0; i < 1000; i++) await head.step(logits, labels, rows, 0, ADAM);
    const { first } = head.adamState();
    expect([...first.w1]).toEqual(Array.from(first.w1, () => 0));
    expect(first.b2.every((m) => m !== 0)).toBe(true);
  });

  it('repeats itself bit for bit, and refines a row the same alone and among others', async () => {
    await fc.assert(
      fc.asyncProperty(cases({ classCount: 40, hiddenWidth: 40, rows: 40 }), async (sample) => {
        const { logits, labels, weights } = prepare(sample);
        const order = Uint32Array.from({ length: sample.rows }, (_, i) => i);
        const heads = [0, 1].map(() => new SimdHead(weights, initialAdamState(sample.classCount, sample.hiddenWidth)));
        for (const head of heads) await head.step(logits, labels, order, sample.consistencyWeight, ADAM);
        expect(heads[1].weights()).toEqual(heads[0].weights());
        expect(heads[1].adamState()).toEqual(heads[0].adamState());
        const whole = await heads[0].refine(logits);
        const last = (sample.rows - 1) * sample.classCount;
        expect(await heads[1].refine(logits.slice(last))).toEqual(whole.slice(last));
      }),
      { numRuns: 40 },
    );
  });

  it('shows a NaN among the weights in what it refines and in its loss', async () => {
    await fc.assert(
      fc.asyncProperty(
        cases({ classCount: 20, hiddenWidth: 20, rows: 9 }),
        fc.constantFrom('w2', 'b2', 'b1' as const),
        fc.nat(),
        async (sample, parameter, place) => {
          const { logits, labels, weights } = prepare(sample);
          const broken = copyHead(weights);
          broken[parameter][place % broken[parameter].length] = Number.NaN;
          const head = new SimdHead(broken, initialAdamState(sample.classCount, sample.hiddenWidth));
          expect((await head.refine(logits)).every(Number.isFinite)).toBe(false);
          const { loss } = await head.gradients(logits, labels, sample.consistencyWeight);
          expect(loss).toBeNaN();
        },
      ),
      { numRuns: 60 },
    );
  });

  it('keeps its memory, and TensorFlow.js its tensors, over 1,000 steps', async () => {
    const sample = { classCount: 22, hiddenWidth: 32, rows: 20, consistencyWeight: 0.1, deviation: 2, seed: 1 };
    const { logits, labels, weights } = prepare(sample);
    const adam = initialAdamState(sample.classCount, sample.hiddenWidth);
    const simd = new SimdHead(weights, adam);
    const reference = new TensorFlowHead(compute, weights, adam);
    const order = Uint32Array.from({ length: sample.rows }, (_, i) => i);
    const held = () => ({ ...compute.tf.memory(), simd: simd.memoryBytes });
    for (const head of [simd, reference]) await head.step(logits, labels, order, 0.1, ADAM);
    const before = held();
    for (let i = 0; i < 1000; i++) {
      // The last batch of an epoch is smaller.
      const rows = order.subarray(0, i % 3 === 2 ? 7 : sample.rows);
      for (const head of [simd, reference]) await head.step(logits, labels, rows, 0.1, ADAM);
    }
    expect(held()).toEqual(before);
    reference.dispose();
  });
});

describe('exponential', () => {
  it('is within 2 units in the last place from -64 to 88, 0 below, and NaN for NaN', () => {
    const kernels = new Float32Kernels();
    const inputs = Float32Array.from({ length: 1 << 18 }, (_, i) => -64 + (152.3 * i) / (1 << 18));
    const array = kernels.allocate(inputs.length);
    kernels.upload(array, inputs);
    kernels.exponentials(array);
    const worst = kernels.view(array).reduce((most, value, i) => {
      const exact = Math.exp(inputs[i]);
      return Math.max(most, Math.abs(value - exact) / (exact * 2 ** -23));
    }, 0);
    expect(worst).toBeLessThan(2);
    const special = kernels.allocate(4);
    kernels.upload(special, [Number.NaN, Number.NEGATIVE_INFINITY, -1e6, 0]);
    kernels.exponentials(special);
    expect([...kernels.view(special)]).toEqual([Number.NaN, 0, 0, 1]);
  });
});
