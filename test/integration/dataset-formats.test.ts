import { beforeAll, describe, expect, it } from 'vitest';
import type { ExampleImage } from '../../src/demo/example-data.js';
import { createJob, errorOf, exampleImages, ok, type Part, quickJob, runJob, sendForm } from '../helpers/api.js';
import { dataUri, zip } from '../helpers/dataset-files.js';
import { type JobAnswer, type TestService, testService } from '../helpers/service.js';

/** Each form of a data set over HTTP: the upload, and a training job on a few shots of it. */

interface FileAnswer {
  id: string;
  classes: string[];
  descriptions: (string | null)[];
  report: { images: { train: number; validation: number }; classes: Record<string, unknown>[]; rejected_count: number };
}

type JobPlan = JobAnswer & { plan: { training_images: number; validation_images: number } };

const CLASSES = 3;
const PER_CLASS = 4;

let service: TestService;
let images: ExampleImage[];
let labels: string[];

beforeAll(async () => {
  service = await testService();
  images = await exampleImages(CLASSES, PER_CLASS);
  labels = [...new Set(images.map(({ label }) => label))].sort();
});

const upload = (content: string | Uint8Array, fields: Part[] = []) =>
  sendForm(service, '/v1/files', [
    { name: 'purpose', value: 'fine-tune' },
    { name: 'file', value: content, filename: 'set' },
    ...fields,
  ]);

const fileName = (index: number) => `${index}.png`;
const asFiles = (folder = '') => Object.fromEntries(images.map(({ bytes }, i) => [folder + fileName(i), bytes]));
const quote = (cell: string) => `"${cell.replaceAll('"', '""')}"`;
const csv = (place: (image: ExampleImage, index: number) => string) =>
  ['file_name;label', ...images.map((image, i) => `${quote(place(image, i))};${quote(image.label)}`)].join('\r\n');
const conversation = (url: string, label: string) =>
  JSON.stringify({
    messages: [
      { role: 'system', content: 'Name what you see.' },
      { role: 'user', content: [{ type: 'image_url', image_url: { url } }] },
      { role: 'assistant', content: label },
    ],
  });
const metadata = () => images.map(({ label }, i) => JSON.stringify({ file_name: fileName(i), text: label })).join('\n');

describe.each<[string, () => Promise<string | Uint8Array>]>([
  ['conversations', async () => images.map(({ bytes, label }) => conversation(dataUri(bytes), label)).join('\n')],
  [
    'conversations in a ZIP',
    () =>
      zip({
        ...asFiles(),
        'chat.jsonl': Buffer.from(images.map(({ label }, i) => conversation(fileName(i), label)).join('\n')),
      }),
  ],
  ['a CSV', async () => csv(({ bytes }) => dataUri(bytes))],
  [
    'a CSV in a ZIP',
    () => zip({ ...asFiles('set/images/'), 'set/labels.csv': Buffer.from(csv((_, i) => `images/${fileName(i)}`)) }),
  ],
  [
    'an image folder with metadata',
    () => zip({ ...asFiles('train/'), 'train/metadata.jsonl': Buffer.from(metadata()) }),
  ],
])('%s', (_, make) => {
  it('are taken, and trained on with two shots of each class', async () => {
    const file = await ok<FileAnswer>(upload(await make()));
    expect(file.classes).toEqual(labels);
    expect(file.report).toMatchObject({ images: { train: images.length, validation: 0 }, rejected_count: 0 });
    const job = (await runJob(service, quickJob(file.id, { shots: 2 }))) as JobPlan;
    expect(job).toMatchObject({
      status: 'succeeded',
      plan: { training_images: 2 * CLASSES, validation_images: 0 },
      method: { craft: { shots: 2 } },
    });
    // Two images of each class under the candidates and the centre, in every generation.
    expect(job.budget.image_queries.used).toBe(15 * 2 * CLASSES);
  });
});

describe('names and descriptions of classes', () => {
  const folderOf = (label: string) => `c-${labels.indexOf(label)}`;
  const folders = () =>
    zip({
      ...Object.fromEntries(images.map(({ bytes, label }, i) => [`${folderOf(label)}/${fileName(i)}`, bytes])),
      'classes.json': Buffer.from(
        JSON.stringify(Object.fromEntries(labels.map((name) => [folderOf(name), { name, description: `A ${name}.` }]))),
      ),
    });
  const field = (value: unknown): Part => ({ name: 'classes', value: JSON.stringify(value) });

  it('come from the ZIP and from the form, whose field may follow the file', async () => {
    const long = 'x'.repeat(500);
    const file = await ok<FileAnswer>(
      upload(await folders(), [field([{ folder: 'c-0', name: labels[0], description: long }])]),
    );
    expect(file.classes).toEqual(labels);
    const descriptions = [long, `A ${labels[1]}.`, `A ${labels[2]}.`];
    expect(file.descriptions).toEqual(descriptions);
    expect(file.report.classes[1]).toMatchObject({ name: labels[1], folder: 'c-1', description: descriptions[1] });
    expect(await ok(service.request('GET', `/v1/files/${file.id}`))).toEqual(file);
  });

  it('may take more than a short field, and come before the file', async () => {
    const entries = labels.map((label) => ({ label: folderOf(label), description: 'y'.repeat(500) }));
    const padded = `${' '.repeat(5000)}${JSON.stringify(entries)}`;
    const file = await ok<FileAnswer>(
      sendForm(service, '/v1/files', [
        { name: 'classes', value: padded },
        { name: 'purpose', value: 'fine-tune' },
        { name: 'file', value: await folders(), filename: 'set.zip' },
      ]),
    );
    expect(file.descriptions).toEqual(labels.map(() => 'y'.repeat(500)));
  });

  it.each<[string, () => Part, number, string, string]>([
    ['an unknown class', () => field({ bird: 'b' }), 400, 'unknown_class', '"bird"'],
    ['no JSON', () => ({ name: 'classes', value: '{' }), 400, 'invalid_classes', 'not valid JSON'],
    ['too much', () => ({ name: 'classes', value: ' '.repeat(1024 * 1024 + 1) }), 413, 'field_too_large', '1048576'],
  ])('are refused where they are %s, and nothing stays', async (_, part, status, code, says) => {
    const before = await ok<{ data: unknown[] }>(service.request('GET', '/v1/files'));
    const error = await errorOf(await upload(await folders(), [part()]), status);
    expect(error).toMatchObject({ code, param: 'classes' });
    expect(error.message).toContain(says);
    expect(await ok(service.request('GET', '/v1/files'))).toEqual(before);
  });
});

describe('shots', () => {
  it('leave validation images untouched and follow the seed', async () => {
    const file = await ok<FileAnswer>(upload(csv(({ bytes }) => dataUri(bytes))));
    const plan = async (craft: Record<string, unknown>) =>
      (await ok<JobPlan>(service.request('POST', '/v1/fine_tuning/jobs?dry_run=true', quickJob(file.id, craft)))).plan;
    const whole = await plan({ validation_fraction: 0.25 });
    expect(whole).toMatchObject({ training_images: 3 * CLASSES, validation_images: CLASSES });
    expect(await plan({ validation_fraction: 0.25, shots: 1 })).toMatchObject({
      training_images: CLASSES,
      validation_images: CLASSES,
    });
    expect((await plan({ validation_fraction: 0.25, shots: 100 })).training_images).toBe(3 * CLASSES);
  });

  it.each([0, 1.5, '2', null])('are refused when they are %j', async (shots) => {
    const error = await errorOf(
      await service.request('POST', '/v1/fine_tuning/jobs', quickJob('file-x', { shots })),
      400,
    );
    expect(error.param).toBe('method.craft.shots');
  });

  it('belong to what an Idempotency-Key stands for', async () => {
    const { id } = await ok<FileAnswer>(upload(csv(({ bytes }) => dataUri(bytes))));
    const headers = { 'idempotency-key': 'shots-1' };
    const created = await createJob(service, quickJob(id, { shots: 1 }), headers);
    expect((await createJob(service, quickJob(id, { shots: 1 }), headers)).id).toBe(created.id);
    const other = await service.request('POST', '/v1/fine_tuning/jobs', quickJob(id, { shots: 2 }), headers);
    expect((await errorOf(other, 409)).code).toBe('idempotency_key_reused');
    expect((await service.finished(created.id)).status).toBe('succeeded');
  });
});
