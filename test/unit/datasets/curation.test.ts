import { expect, test } from 'vitest';
import { Dataset } from '../../../src/datasets/dataset.js';
import { image, ingestBytes, readAll, twoClasses, zip } from '../../helpers/dataset-files.js';

test('one image under two labels is rejected in both places', async () => {
  const { report } = await ingestBytes(
    await zip({ ...(await twoClasses()), 'cat/x.png': await image(9), 'dog/y.png': await image(9) }),
  );
  expect(report.images.train).toBe(2);
  expect(report.rejected).toEqual([
    { entry: 'cat/x.png', reason: 'conflicting_label', message: expect.stringContaining('"dog/y.png"') },
    { entry: 'dog/y.png', reason: 'conflicting_label', message: expect.stringContaining('"cat/x.png"') },
  ]);
});

test('a training image is rejected from validation', async () => {
  const { report } = await ingestBytes(
    await zip({ ...(await twoClasses('train/')), 'validation/cat/same.png': await image(1) }),
  );
  expect(report.images).toEqual({ train: 2, validation: 0 });
  expect(report.rejected).toEqual([
    {
      entry: 'validation/cat/same.png',
      reason: 'validation_leak',
      message: expect.stringContaining('train/cat/1.png'),
    },
  ]);
});

test('a file of validation images only is told how to be a validation_file', async () => {
  const refused = ingestBytes(await zip(await twoClasses('validation/')));
  await expect(refused).rejects.toMatchObject({
    code: 'class_without_images',
    param: 'file',
    message: expect.stringContaining('name no split'),
  });
});

test('copies in one class are kept, counted and stored once', async () => {
  const { report, folder } = await ingestBytes(await zip({ ...(await twoClasses()), 'cat/copy.png': await image(1) }));
  expect(report.duplicates).toBe(1);
  expect(report.classes[0]).toEqual({ name: 'cat', train: 2, validation: 0 });
  const dataset = await Dataset.open('file-x', folder);
  expect(dataset.images[0].offset).toBe(dataset.images[1].offset);
  expect(await readAll(dataset)).toEqual([await image(1), await image(1), await image(2)]);
  await dataset.close();
});
