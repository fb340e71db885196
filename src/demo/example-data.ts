import { readFile } from 'node:fs/promises';
import { buffer } from 'node:stream/consumers';
import { fileURLToPath } from 'node:url';
import yauzl from 'yauzl';

/** One labelled image of an example data set. */
export interface ExampleImage {
  path: string;
  /** The class's display name. */
  label: string;
  bytes: Buffer;
}

export interface ExampleSplit {
  train: ExampleImage[];
  /** Never shown to training. */
  test: ExampleImage[];
  /** Display names. */
  classes: string[];
}

interface ExampleIndex {
  classes: { folder: string; name: string }[];
  splits: Record<string, { train: string[]; test: string[] }>;
}

const EXAMPLES = new URL('../../examples/', import.meta.url);

/** Reads `<name>.zip` and `.json` in the folder of examples and takes the split of one seed, such as `seed-1`. */
export async function readExample(name: string, split: string, folder: URL = EXAMPLES): Promise<ExampleSplit> {
  const path = (extension: string) => fileURLToPath(new URL(`${name}.${extension}`, folder));
  const index = JSON.parse(await readFile(path('json'), 'utf8')) as ExampleIndex;
  const contents = await readZip(path('zip'));
  const label = new Map(index.classes.map(({ folder, name: label }) => [folder, label]));
  const toImage = (imagePath: string): ExampleImage => ({
    path: imagePath,
    label: label.get(imagePath.split('/')[0]) ?? '',
    bytes: contents.get(imagePath) ?? Buffer.alloc(0),
  });
  const { train, test } = index.splits[split];
  return {
    train: train.map(toImage),
    test: test.map(toImage),
    classes: index.classes.map(({ name: label }) => label),
  };
}

/** The example's training images as an upload: one JSON object with a data URI and a label per line. */
export function toJsonl(images: ExampleImage[]): string {
  return images.map(({ bytes, label }) => `${JSON.stringify({ image: toDataUri(bytes), label })}\n`).join('');
}

export function toDataUri(png: Buffer): string {
  return `data:image/png;base64,${png.toString('base64')}`;
}

async function readZip(path: string): Promise<Map<string, Buffer>> {
  const zip = await yauzl.openPromise(path);
  const contents = new Map<string, Buffer>();
  for await (const entry of zip.eachEntry()) {
    if (entry.fileName.endsWith('/')) continue;
    contents.set(entry.fileName, await buffer(await zip.openReadStreamPromise(entry)));
  }
  return contents;
}
