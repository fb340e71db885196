import '@tensorflow/tfjs-backend-cpu';
import * as tf from '@tensorflow/tfjs-core';
import { beforeAll, describe, expect, it } from 'vitest';
import type { HeadArithmetic, RegressionProblem } from '../../../../src/craft/economy/arithmetic.js';
import { arithmeticFor } from '../../../../src/craft/economy/arithmetic-choice.js';
import { refineAnswers } from '../../../../src/craft/economy/economy-head.js';
import { chooseHead, fitHead } from '../../../../src/craft/economy/head-search.js';
import { simdArithmetic } from '../../../../src/craft/economy/simd-arithmetic.js';
import { tensorflowArithmetic } from '../../../../src/craft/economy/tensorflow-arithmetic.js';
import { Random } from '../../../../src/craft/random.js';
import { labelledViews, labelsOf } from './views.js';

const ROWS = 9;
const OTHERS = 4;
const WIDTH = 5;
const CLASSES = 3;

function problem(): RegressionProblem {
  const random = Random.stream(1, 'regression');
  return {
    inputs: random.fillNormal(new Float32Array((ROWS + OTHERS) * WIDTH)),
    width: WIDTH,
    offsets: random.fillNormal(new Float32Array(ROWS * CLASSES), 2).map((value, at) => (at % 7 === 6 ? -1e9 : value)),
    labels: Int32Array.from({ length: ROWS }, (_, row) => ((row * CLASSES + 2) % 7 === 6 ? 0 : 2)).map((label, row) =>
      (row * CLASSES + label) % 7 === 6 ? 1 : label,
    ),
    classCount: CLASSES,
    weights: Float32Array.from({ length: ROWS }, (_, row) => 1 / (1 + (row % 3))),
  };
}

/** In double precision, as it is written. */
function plainly({ inputs, offsets, labels, weights }: RegressionProblem, parameters: Float64Array) {
  const gradient = new Float64Array(parameters.length);
  let loss = 0;
  const product = (row: number, c: number) => {
    let sum = 0;
    for (let k = 0; k < WIDTH; k++) sum += inputs[row * WIDTH + k] * parameters[k * CLASSES + c];
    return sum;
  };
  for (let row = 0; row < ROWS; row++) {
    const logits = Array.from({ length: CLASSES }, (_, c) => offsets[row * CLASSES + c] + product(row, c));
    const most = Math.max(...logits);
    const sum = logits.reduce((all, value) => all + Math.exp(value - most), 0);
    loss += weights[row] * (Math.log(sum) + most - logits[labels[row]]);
    for (let c = 0; c < CLASSES; c++) {
      const residual = weights[row] * (Math.exp(logits[c] - most) / sum - (c === labels[row] ? 1 : 0));
      for (let k = 0; k < WIDTH; k++) gradient[k * CLASSES + c] += inputs[row * WIDTH + k] * residual;
    }
  }
  const others = Array.from({ length: OTHERS * CLASSES }, (_, at) =>
    product(ROWS + Math.floor(at / CLASSES), at % CLASSES),
  );
  return { loss, gradient, others };
}

beforeAll(async () => {
  tf.env().set('PROD', true);
  await tf.setBackend('cpu');
});

describe.each<[string, () => HeadArithmetic]>([
  ['SIMD', () => simdArithmetic],
  ['TensorFlow.js', () => tensorflowArithmetic(tf)],
])('the arithmetic of the head on %s', (_, arithmetic) => {
  const parameters = Random.stream(2, 'parameters').fillNormal(new Float64Array(WIDTH * CLASSES));

  it('has the loss, the gradient and the residuals of the formula', async () => {
    const given = problem();
    const regression = arithmetic().regression(given);
    const gradient = new Float64Array(parameters.length);
    const expected = plainly(given, parameters);
    expect(expected.loss).toBeLessThan(100);
    expect(await regression.lossAndGradient(parameters, gradient)).toBeCloseTo(expected.loss, 4);
    for (const [at, value] of expected.gradient.entries()) expect(gradient[at]).toBeCloseTo(value, 4);
    const residuals = await regression.residuals(parameters);
    expect(residuals).toHaveLength(OTHERS * CLASSES);
    for (const [at, value] of expected.others.entries()) expect(residuals[at]).toBeCloseTo(value, 4);
    regression.dispose();
  });

  it('has no residuals where all rows count', async () => {
    const given = problem();
    const regression = arithmetic().regression({ ...given, inputs: given.inputs.slice(0, ROWS * WIDTH) });
    expect(await regression.residuals(parameters)).toHaveLength(0);
    regression.dispose();
  });

  it('does not keep the arrays that it is given', async () => {
    const [given, gradient] = [problem(), new Float64Array(parameters.length)];
    const regression = arithmetic().regression(given);
    const before = await regression.lossAndGradient(parameters, gradient);
    for (const array of [given.inputs, given.offsets, given.weights, given.labels]) array.fill(0);
    expect(await regression.lossAndGradient(parameters, gradient)).toBe(before);
    regression.dispose();
  });

  it('has several regressions at a time', async () => {
    const gradient = new Float64Array(parameters.length);
    const given = problem();
    const first = arithmetic().regression(given);
    const second = arithmetic().regression({ ...given, weights: given.weights.map((weight) => 2 * weight) });
    const loss = await first.lossAndGradient(parameters, gradient);
    expect((await second.lossAndGradient(parameters, gradient)) / loss).toBeCloseTo(2, 6);
    first.dispose();
    first.dispose();
    const third = arithmetic().regression(given);
    expect((await second.lossAndGradient(parameters, gradient)) / loss).toBeCloseTo(2, 6);
    expect(await third.lossAndGradient(parameters, gradient)).toBe(loss);
    second.dispose();
    third.dispose();
  });
});

describe('TensorFlow.js for the head', () => {
  it('chooses the heads that SIMD chooses, and leaves no tensors behind', async () => {
    const inputs = { kind: 'scores', probes: 6, transforms: 1 } as const;
    const data = labelledViews({ classCount: 3, labels: labelsOf(30, 3), inputs, apart: 0.7 });
    const heads = [];
    const before = tf.memory().numTensors;
    for (const arithmetic of [simdArithmetic, tensorflowArithmetic(tf)]) {
      const choice = await chooseHead(data, Random.stream(1, 'folds'), arithmetic);
      heads.push({ choice, head: await fitHead(data, choice, arithmetic) });
    }
    expect(tf.memory().numTensors).toBe(before);
    const [simd, tensorflow] = heads;
    expect(tensorflow.choice.heldOut.loss).toBeCloseTo(simd.choice.heldOut.loss, 3);
    for (const [at, value] of simd.head.weight.entries()) {
      expect(Math.abs(tensorflow.head.weight[at] - value)).toBeLessThan(1e-3);
    }
    expect(tensorflow.head.kind).toBe('kernel');
    const [refined, other] = [simd.head, tensorflow.head].map((head) => refineAnswers(head, data.views[0]));
    for (const [at, value] of refined.entries()) expect(Math.abs(other[at] - value)).toBeLessThan(2e-3);
  });

  it('is for large regressions where there is a GPU', () => {
    const before = tf.memory().numTensors;
    const opened = (name: 'webgpu' | 'wasm' | 'cpu', images: number) => {
      const given = problem();
      const inputs = new Float32Array(images * WIDTH);
      const labels = new Int32Array(images);
      const offsets = new Float32Array(images * CLASSES);
      const regression = arithmeticFor({ name, tf, activate: () => {} }).regression({
        ...{ ...given, inputs, labels, offsets },
        weights: new Float32Array(images),
      });
      const tensors = tf.memory().numTensors - before;
      regression.dispose();
      return tensors;
    };
    expect(opened('webgpu', 1e6)).toBeGreaterThan(0);
    expect([opened('webgpu', 100), opened('wasm', 1e6), opened('cpu', 1e6)]).toEqual([0, 0, 0]);
    expect(tf.memory().numTensors).toBe(before);
  });
});
