// What a training step of the refinement head costs (loss, gradients, Adam) beside its five matrix products done plainly on the
// same backend, and what a whole generation's refinements and losses cost.
//   npm run bench:head [-- --batch 256] [--hidden 256] [--classes 22,100,1000] [--seconds 1] [--json FILE]
// Steps and products take turns within one run; each figure is the median of its repeats.
import { parseArgs } from 'node:util';
import { initialAdamState } from '../dist/craft/adam.js';
import { selectCompute } from '../dist/craft/compute.js';
import { initialHead } from '../dist/craft/head-weights.js';
import { Random } from '../dist/craft/random.js';
import { RefinementHead } from '../dist/craft/refinement-head.js';
import { plainProducts, trainingStep } from './head-cases.mjs';
import { median, report } from './report.mjs';

const { values } = parseArgs({
  options: {
    batch: { type: 'string', default: '256' },
    hidden: { type: 'string', default: '256' },
    classes: { type: 'string', default: '22,100,1000' },
    seconds: { type: 'string', default: '1' },
    json: { type: 'string' },
  },
});
const batch = Number(values.batch);
const hiddenWidth = Number(values.hidden);
const milliseconds = Number(values.seconds) * 1000;
/** A step at B = 256, h = 256 in PyTorch on one core, in ms, by number of classes. */
const PYTORCH = new Map([
  [22, 0.8],
  [100, 1.3],
  [1000, 9.2],
]);

async function timeOf(work) {
  const start = performance.now();
  await work();
  return performance.now() - start;
}

/** Medians of both, taken in turns for some time, or at least a few times. */
async function inTurns(step, products, leastRepeats) {
  for (let i = 0; i < leastRepeats; i++) {
    await step();
    await products();
  }
  const times = { step: [], products: [] };
  const until = performance.now() + milliseconds;
  while (performance.now() < until || times.step.length < leastRepeats) {
    times.step.push(await timeOf(step));
    times.products.push(await timeOf(products));
  }
  return { step: median(times.step), products: median(times.products) };
}

const rows = [];
for (const name of ['simd', 'wasm', 'cpu']) {
  for (const classCount of values.classes.split(',').map(Number)) {
    const shape = { classCount, hiddenWidth, batch };
    const compute = await selectCompute(name);
    const step = trainingStep(compute, shape);
    const products = plainProducts(compute, shape);
    const times = await inTurns(step.run, products.run, name === 'cpu' ? 2 : 5);
    step.dispose();
    products.dispose();
    rows.push({
      name: `step, ${name}, C = ${classCount}`,
      value: times.step,
      unit: 'ms',
      reference: 'its five products, plainly',
      referenceValue: times.products,
      ...(name === 'simd' && { target: '≤ 1.5', met: times.step <= 1.5 * times.products }),
    });
    const pytorch = batch === 256 && hiddenWidth === 256 ? PYTORCH.get(classCount) : undefined;
    if (name === 'simd' && pytorch !== undefined) {
      const reference = { reference: 'PyTorch, one core, another machine', referenceValue: pytorch };
      rows.push({ name: `step, simd, C = ${classCount}`, value: times.step, unit: 'ms', ...reference });
    }
  }
}

/** What the 40 candidates of a generation on 352 images and 22 classes take besides the black box. */
async function fitnessOfGeneration() {
  const [imageCount, classCount, candidates] = [352, 22, 40];
  const random = Random.stream(1, 'bench');
  const head = new RefinementHead(
    await selectCompute('simd'),
    initialHead(classCount, hiddenWidth, random),
    initialAdamState(classCount, hiddenWidth),
  );
  const logits = random.fillNormal(new Float32Array(imageCount * classCount), 2);
  const labels = Int32Array.from({ length: imageCount }, () => random.integer(classCount));
  const times = [];
  for (let i = 0; i < 400; i++) times.push(await timeOf(() => head.promptLoss(logits, labels, 0.1)));
  const name = 'fitness of 40 candidates, N = 352, C = 22, given their logits';
  rows.push({ name, value: candidates * median(times), unit: 'ms' });
}
await fitnessOfGeneration();
report(`Refinement head, B = ${batch}, hidden ${hiddenWidth}`, rows, values.json);
