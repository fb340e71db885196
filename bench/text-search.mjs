// Searching text prompts, in process, without the service: methods compared on both example data sets, seeds 1 to 3.
//   npm run bench:text-search [-- --quick] [--evaluations 2000] [--population 40] [--data NAME]
//                             [--epochs 32] [--consistency 0.5] [--switch 1]
// Fitness is the cross-entropy of the black box on the training images, without a consistency term. The head trains at
// the best prompt so far, as in a training job. Accuracies are those on the test images, in %.
import { createHash } from 'node:crypto';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { initialAdamState } from '../dist/craft/adam.js';
import { selectCompute } from '../dist/craft/compute.js';
import { initialHead } from '../dist/craft/head-weights.js';
import { craftHyperparametersSchema } from '../dist/craft/hyperparameters.js';
import { crossEntropy } from '../dist/craft/losses.js';
import { accuracy } from '../dist/craft/metrics.js';
import { Random } from '../dist/craft/random.js';
import { RefinementHead } from '../dist/craft/refinement-head.js';
import { TextPromptSpace } from '../dist/craft/text-prompt-space.js';
import { TextSearch } from '../dist/craft/text-search.js';
import { TEMPLATES } from '../dist/craft/text-vocabulary.js';
import { readExample } from '../dist/demo/example-data.js';
import { EmojiClip } from '../dist/reference-provider/emoji-clip.js';
import { CatCma, CrossEntropyMethod, GeneticAlgorithm, RandomSearch } from './text-search-methods.mjs';

const DATA_SETS = ['fluent-contrast-subgroups', 'fluent-flat-subgroups'];
const METHODS = {
  'random search': RandomSearch,
  'cross-entropy': CrossEntropyMethod,
  CatCMA: CatCma,
  'genetic alg.': GeneticAlgorithm,
  TextSearch,
};
/** Epochs of the reference's head that trains alone; examples/README.md. */
const REFERENCE_EPOCHS = 200;

const { values } = parseArgs({
  options: {
    quick: { type: 'boolean', default: false },
    evaluations: { type: 'string' },
    population: { type: 'string', default: '40' },
    epochs: { type: 'string', default: '32' },
    consistency: { type: 'string', default: '0.5' },
    switch: { type: 'string', default: '1' },
    data: { type: 'string' },
  },
});
const evaluations = Number(values.evaluations ?? (values.quick ? 400 : 2000));
const populationSize = Number(values.population);
const epochs = Number(values.epochs);
const plannedGenerations = Math.floor(evaluations / populationSize);
const seeds = values.quick ? [1] : [1, 2, 3];
const names = values.data ? [values.data] : values.quick ? DATA_SETS.slice(0, 1) : DATA_SETS;

const hyperparameters = craftHyperparametersSchema.parse({
  consistency_weight: Number(values.consistency),
  consistency_switch: Number(values.switch),
});
const compute = await selectCompute('auto');
const blackBox = await EmojiClip.load({
  modelDirectory: fileURLToPath(new URL('../models/emoji-clip', import.meta.url)),
});
const space = new TextPromptSpace({ descriptions: false });

/** The black box on one split: logits of a template on the training and on the test images. */
async function problemOf(name, seed) {
  const example = await readExample(name, `seed-${seed}`);
  const images = [...example.train, ...example.test].map(({ bytes }) => {
    return { hash: createHash('sha256').update(bytes).digest('hex'), bytes };
  });
  const classCount = example.classes.length;
  const labelsOf = (split) => Int32Array.from(split, ({ label }) => example.classes.indexOf(label));
  const cut = example.train.length;
  const logitsOn = async (part, template) => {
    return blackBox.score({ images: part, classNames: example.classes, prompts: [{ template }] });
  };
  return {
    classCount,
    seed,
    labels: labelsOf(example.train),
    testLabels: labelsOf(example.test),
    trainLogits: (template) => logitsOn(images.slice(0, cut), template),
    testLogits: (template) => logitsOn(images.slice(cut), template),
  };
}

/** Test accuracy of a head trained for `epochsEach` epochs at each of `prompts`, at the last one. */
async function headAccuracy(problem, prompts, epochsEach) {
  const { classCount, seed, labels, testLabels } = problem;
  const { head_hidden_width: width, head_learning_rate, consistency_weight, consistency_switch } = hyperparameters;
  const { adam_beta1: beta1, adam_beta2: beta2, adam_epsilon: epsilon, batch_size: batchSize } = hyperparameters;
  const weights = initialHead(classCount, width, Random.stream(seed, 'head'));
  const head = new RefinementHead(compute, weights, initialAdamState(classCount, width));
  for (const [g, prompt] of prompts.entries()) {
    const logits = await problem.trainLogits(prompt);
    const consistencyWeight = (g + 1) * consistency_switch <= prompts.length ? consistency_weight : 0;
    for (let epoch = 0; epoch < epochsEach; epoch++) {
      const order = Random.stream(seed, `batches/${g}/${epoch}`).permutation(labels.length);
      const adam = { learningRate: head_learning_rate, beta1, beta2, epsilon };
      await head.trainEpoch(logits, labels, order, { batchSize, consistencyWeight, adam });
    }
  }
  const refined = await head.refine(await problem.testLogits(prompts.at(-1)));
  head.dispose();
  return 100 * accuracy(refined, testLabels, classCount);
}

async function rowOf(problem, method, prompts, epochsEach) {
  const prompt = prompts.at(-1);
  const logits = await problem.trainLogits(prompt);
  return {
    method,
    prompt,
    loss: crossEntropy(logits, problem.labels, problem.classCount),
    alone: 100 * accuracy(await problem.testLogits(prompt), problem.testLabels, problem.classCount),
    withHead: await headAccuracy(problem, prompts, epochsEach),
  };
}

/** The prompt that the head trains at in each generation. */
async function search(problem, Method) {
  const method = new Method({ space, populationSize, plannedGenerations, seed: problem.seed });
  const centres = [];
  for (let generation = 0; generation < plannedGenerations; generation++) {
    const losses = [];
    for (const prompt of method.ask()) {
      losses.push(crossEntropy(await problem.trainLogits(prompt), problem.labels, problem.classCount));
    }
    method.tell(losses);
    centres.push(method.centre);
  }
  return centres;
}

async function shippedRows(problem) {
  const scored = [];
  for (const template of TEMPLATES) {
    const loss = crossEntropy(await problem.trainLogits(template), problem.labels, problem.classCount);
    const test = accuracy(await problem.testLogits(template), problem.testLabels, problem.classCount);
    scored.push({ template, loss, test });
  }
  const same = (template) => Array(plannedGenerations).fill(template);
  const byLoss = scored.toSorted((a, b) => a.loss - b.loss)[0].template;
  const byTest = scored.toSorted((a, b) => b.test - a.test)[0].template;
  return [
    await rowOf(problem, `start, ${REFERENCE_EPOCHS} epochs`, Array(REFERENCE_EPOCHS).fill(TEMPLATES[0]), 1),
    await rowOf(problem, 'start', same(TEMPLATES[0]), epochs),
    await rowOf(problem, 'shipped, by loss', same(byLoss), epochs),
    await rowOf(problem, 'shipped, by test', same(byTest), epochs),
  ];
}

const number = (value, digits, width) => value.toFixed(digits).padStart(width);
const line = (seed, { method, prompt, loss, alone, withHead }) => {
  const figures = `${number(loss, 4, 9)}${number(alone, 2, 8)}${number(withHead, 2, 11)}`;
  console.log(`${method.padEnd(20)}${String(seed).padStart(4)}${figures}  ${prompt}`);
};

console.log(
  `${evaluations} prompt evaluations, λ = ${populationSize}, ${epochs} head epochs a generation (${plannedGenerations * epochs} in all), ` +
    `consistency weight of the head ${values.consistency}, switch ${values.switch}, compute ${compute.name}`,
);
for (const name of names) {
  console.log(`\n${name}\n${'method'.padEnd(20)}seed     loss   alone  with head  prompt`);
  const rows = [];
  for (const seed of seeds) {
    const problem = await problemOf(name, seed);
    const report = (row) => {
      rows.push(row);
      line(seed, row);
    };
    for (const row of await shippedRows(problem)) report(row);
    for (const [method, Method] of Object.entries(METHODS)) {
      report(await rowOf(problem, method, await search(problem, Method), epochs));
    }
  }
  const mean = (list, field) => list.reduce((sum, row) => sum + row[field], 0) / list.length;
  for (const method of new Set(rows.map((row) => row.method))) {
    const own = rows.filter((row) => row.method === method);
    line('mean', {
      method,
      prompt: '',
      ...Object.fromEntries(['loss', 'alone', 'withHead'].map((f) => [f, mean(own, f)])),
    });
  }
}
await blackBox.close();
