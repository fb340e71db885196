import { readFileSync } from 'node:fs';
import { buffer } from 'node:stream/consumers';
import yauzl from 'yauzl';

export const MODEL_DIRECTORY = new URL('../../../models/emoji-clip', import.meta.url).pathname;

export interface ExampleDataSet {
  classes: { folder: string; name: string }[];
  splits: Record<string, { train: string[]; test: string[] }>;
  /** Encoded images by their path within the data set. */
  images: Map<string, Uint8Array>;
}

export async function loadExample(name: string): Promise<ExampleDataSet> {
  const base = new URL(`../../../examples/${name}`, import.meta.url).pathname;
  const images = new Map<string, Uint8Array>();
  const zip = await yauzl.fromBufferPromise(readFileSync(`${base}.zip`), { lazyEntries: true });
  for await (const entry of zip.eachEntry()) {
    if (entry.fileName.endsWith('/')) continue;
    images.set(entry.fileName, new Uint8Array(await buffer(await zip.openReadStreamPromise(entry))));
  }
  return { ...JSON.parse(readFileSync(`${base}.json`, 'utf8')), images };
}
