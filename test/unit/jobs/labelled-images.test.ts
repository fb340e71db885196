import { expect, onTestFinished, test } from 'vitest';
import { Dataset } from '../../../src/datasets/dataset.js';
import { chooseImages, type LabelledSet } from '../../../src/jobs/labelled-images.js';
import { image, ingestBytes, zip } from '../../helpers/dataset-files.js';

async function dataset(sizes: Record<string, number>, first: number, extra: Record<string, Buffer> = {}) {
  const entries: Record<string, Buffer> = { ...extra };
  let seed = first;
  for (const [folder, size] of Object.entries(sizes)) {
    for (let i = 0; i < size; i++) entries[`${folder}/${i}.png`] = await image(seed++);
  }
  const opened = await Dataset.open('file-x', (await ingestBytes(await zip(entries))).folder);
  onTestFinished(() => opened.close());
  return opened;
}

const shown = ({ images, labels }: LabelledSet) => images.map(({ sha256 }, i) => `${labels[i]} ${sha256}`);

test('shots thin the training images out and leave validation as it is, wherever it comes from', async () => {
  const training = await dataset({ a: 12, b: 8, c: 2 }, 0);
  const splits = await dataset({ 'train/a': 6, 'train/b': 6, 'validation/a': 5, 'validation/b': 1 }, 100);
  const other = await dataset({ a: 3, b: 3 }, 200);
  for (const [file, validation, choice] of [
    [training, null, {}],
    [training, null, { validation_fraction: 0.25 }],
    [training, other, {}],
    [splits, null, {}],
  ] as const) {
    const whole = chooseImages(file, validation, choice, 7);
    const few = chooseImages(file, validation, { ...choice, shots: 3 }, 7);
    expect(shown(few.validation)).toEqual(shown(whole.validation));
    const counts = (set: LabelledSet) => file.classes.map((_, index) => set.labels.filter((l) => l === index).length);
    expect(counts(few.training)).toEqual(counts(whole.training).map((count) => Math.min(count, 3)));
    const chosen = new Set(shown(few.training));
    expect(shown(few.training)).toEqual(shown(whole.training).filter((entry) => chosen.has(entry)));
    const again = chooseImages(file, validation, { ...choice, shots: 3 }, 8);
    expect(shown(again.training)).not.toEqual(shown(few.training));
  }
});

test('training images among the validation images are named, and counted', async () => {
  const training = await dataset({ a: 2, b: 2 }, 0);
  const one = await dataset({ b: 1 }, 50, { 'a/same.png': await image(1) });
  const refuse = (validation: Dataset) => () => chooseImages(training, validation, {}, 1);
  expect(refuse(one)).toThrow('A validation image is a training image too: "a/same.png". Remove it');
  expect(refuse(training)).toThrow('4 validation images are training images too, such as "a/0.png". Remove each');
});

test('classes come with their descriptions', async () => {
  const texts = Buffer.from(JSON.stringify({ b: { name: 'bear', description: 'Brown.' } }));
  const training = await dataset({ a: 1, b: 1 }, 0, { 'classes.json': texts });
  expect(chooseImages(training, null, {}, 1)).toMatchObject({ classes: ['a', 'bear'], descriptions: [null, 'Brown.'] });
});

test('copies of an image are chosen once where a job asks once, before shots are counted', async () => {
  const [one, two, three, four] = await Promise.all([1, 2, 3, 4].map((seed) => image(seed)));
  const training = await dataset({}, 0, {
    ...{ 'train/a/1.png': one, 'train/a/2.png': one, 'train/a/3.png': one, 'train/a/4.png': two },
    ...{ 'train/b/1.png': three, 'train/b/2.png': three },
    ...{ 'validation/a/1.png': four, 'validation/a/2.png': four },
  });
  const all = chooseImages(training, null, {}, 1);
  expect([all.training.images.length, all.validation.images.length]).toEqual([6, 2]);
  const once = chooseImages(training, null, { asksOnce: true }, 1);
  expect(shown(once.training)).toEqual([...new Set(shown(all.training))]);
  expect(shown(once.validation)).toEqual([...new Set(shown(all.validation))]);
  const shots = chooseImages(training, null, { asksOnce: true, shots: 2 }, 1);
  expect(shown(shots.training)).toEqual(shown(once.training));

  const validation = await dataset({}, 0, { 'a/1.png': four, 'a/2.png': four, 'b/1.png': await image(5) });
  const lone = await dataset({ a: 2, b: 2 }, 10);
  expect(chooseImages(lone, validation, { asksOnce: true }, 1).validation.images).toHaveLength(2);
});

test('no validation images are chosen where none are to be asked about', async () => {
  const training = await dataset({ 'train/a': 2, 'train/b': 2, 'validation/a': 1 }, 0);
  const validation = await dataset({ a: 3, b: 3 }, 200);
  for (const file of [null, validation]) {
    const chosen = chooseImages(training, file, { validates: false }, 1);
    expect(chosen.validation).toEqual({ images: [], labels: new Int32Array(0) });
    expect(shown(chosen.training)).toEqual(shown(chooseImages(training, file, {}, 1).training));
  }
});
