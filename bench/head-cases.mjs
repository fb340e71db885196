// The refinement head at a given shape on a given backend, for benchmarks.
import { initialAdamState } from '../dist/craft/adam.js';
import { initialHead } from '../dist/craft/head-weights.js';
import { Random } from '../dist/craft/random.js';
import { RefinementHead } from '../dist/craft/refinement-head.js';
import { Float32Kernels } from '../dist/craft/wasm/float32-kernels.js';

const ADAM = { learningRate: 1e-3, beta1: 0.9, beta2: 0.999, epsilon: 1e-8 };
const CONSISTENCY_WEIGHT = 0.1;

/** Logits, labels and weights, always the same for a shape. */
function headInputs({ classCount, hiddenWidth, batch }) {
  const random = Random.stream(1, `bench/${classCount}/${hiddenWidth}/${batch}`);
  return {
    logits: random.fillNormal(new Float32Array(batch * classCount), 2),
    labels: Int32Array.from({ length: batch }, () => random.integer(classCount)),
    weights: initialHead(classCount, hiddenWidth, random),
  };
}

/** A step of training as the trainer takes it: batch gathered, loss, gradients, Adam. */
export function trainingStep(compute, shape) {
  const { logits, labels, weights } = headInputs(shape);
  const head = new RefinementHead(compute, weights, initialAdamState(shape.classCount, shape.hiddenWidth));
  const order = Uint32Array.from({ length: shape.batch }, (_, i) => i);
  const options = { batchSize: shape.batch, consistencyWeight: CONSISTENCY_WEIGHT, adam: ADAM };
  return { run: () => head.trainEpoch(logits, labels, order, options), dispose: () => head.dispose() };
}

/**
 * Refined logits, loss and gradients at fixed weights. Hidden units are clearly on or off: where one is within rounding errors
 * of the kink of ReLU, as happens among millions, backends may rightly differ about the gradient of its row.
 */
export async function headResults(compute, shape) {
  const { logits, labels, weights } = headInputs(shape);
  weights.b1.forEach((_, j) => {
    weights.b1[j] = j % 2 === 0 ? 8 : -8;
  });
  const head = new RefinementHead(compute, weights, initialAdamState(shape.classCount, shape.hiddenWidth));
  const refined = await head.refine(logits);
  const { gradients, loss } = await head.gradients(logits, labels, CONSISTENCY_WEIGHT);
  head.dispose();
  return { refined, loss: Float32Array.of(loss), ...gradients };
}

/**
 * The five products of a step, and nothing else, with operands that lie as they come and results left where they are.
 * TensorFlow.js's WebAssembly backend multiplies transposed operands at a tenth of its speed: there they are transposed first.
 */
export function plainProducts(compute, { classCount: c, hiddenWidth: h, batch: b }) {
  const random = Random.stream(2, 'bench');
  const matrix = (rows, columns) => random.fillNormal(new Float32Array(rows * columns), 0.1);
  /** Of s, the hidden activations and their gradient, the gradient of r, and both layers' weights. */
  const shapes = [
    [b, c],
    [b, h],
    [b, h],
    [b, c],
    [c, h],
    [h, c],
  ];
  if (compute.name === 'simd') {
    const kernels = new Float32Kernels();
    const uploaded = ([rows, columns]) => {
      const array = kernels.allocate(rows * columns);
      kernels.upload(array, matrix(rows, columns));
      return array;
    };
    const [scores, hidden, dHidden, dRefined, w1, w2] = shapes.map(uploaded);
    const [outHidden, outScores, outW1, outW2] = [b * h, b * c, c * h, h * c].map((length) => kernels.allocate(length));
    const run = () => {
      kernels.matmul(scores, w1, outHidden, b, c, h);
      kernels.matmul(hidden, w2, outScores, b, h, c);
      kernels.matmulTransposedB(dRefined, w2, outHidden, b, c, h);
      kernels.matmulTransposedA(scores, dHidden, outW1, c, b, h);
      kernels.matmulTransposedA(hidden, dRefined, outW2, h, b, c);
    };
    return { run, dispose: () => {} };
  }
  const { tf } = compute;
  compute.activate();
  const uploaded = ([rows, columns]) => tf.tensor2d(matrix(rows, columns), [rows, columns]);
  const [scores, hidden, dHidden, dRefined, w1, w2] = shapes.map(uploaded);
  const run = async () => {
    compute.activate();
    const products = tf.tidy(() => [
      tf.matMul(scores, w1),
      tf.matMul(hidden, w2),
      tf.matMul(dRefined, tf.transpose(w2)),
      tf.matMul(tf.transpose(scores), dHidden),
      tf.matMul(tf.transpose(hidden), dRefined),
    ]);
    // On a GPU nothing is known to be done before something of it is read.
    await Promise.all(products.map((product) => tf.tidy(() => tf.sum(product)).data()));
    tf.dispose(products);
  };
  return { run, dispose: () => tf.dispose([scores, hidden, dHidden, dRefined, w1, w2]) };
}
