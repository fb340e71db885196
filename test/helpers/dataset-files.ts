import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { buffer } from 'node:stream/consumers';
import { crc32, deflateRawSync } from 'node:zlib';
import sharp from 'sharp';
import { onTestFinished } from 'vitest';
import { ZipFile } from 'yazl';
import { Dataset } from '../../src/datasets/dataset.js';
import { type Ingested, type IngestOptions, ingest } from '../../src/datasets/ingest.js';
import { type DatasetLimits, DEFAULT_DATASET_LIMITS } from '../../src/datasets/limits.js';
import type { DatasetImage } from '../../src/datasets/manifest.js';

type Format = 'png' | 'jpeg' | 'webp' | 'gif' | 'tiff';

/** A small image; another one for each seed, byte for byte the same for the same seed. */
export async function image(seed: number, format: Format = 'png', width = 4, height = 4): Promise<Buffer> {
  const pixels = Buffer.alloc(width * height * 3, seed & 255);
  pixels.writeUInt32LE(seed >>> 0, 0);
  return sharp(pixels, { raw: { width, height, channels: 3 } })
    .toFormat(format, format === 'webp' ? { lossless: true } : {})
    .toBuffer();
}

/** A ZIP as an ordinary tool makes it. A name that ends in `/` is a folder. */
export async function zip(entries: Record<string, Buffer>, compress = false): Promise<Buffer> {
  const file = new ZipFile();
  for (const [name, bytes] of Object.entries(entries)) {
    if (name.endsWith('/')) file.addEmptyDirectory(name);
    else file.addBuffer(bytes, name, { compress });
  }
  file.end();
  return buffer(file.outputStream);
}

export interface RawEntry {
  name: string | Buffer;
  data?: Buffer;
  deflate?: boolean;
  /** What the headers say in place of the truth. */
  size?: number;
  compressedSize?: number;
  crc?: number;
  method?: number;
  flags?: number;
  /** Unix mode, in the upper half of the external attributes. */
  mode?: number;
  /** Where the directory says the entry starts. */
  offset?: number;
  /** Extra field of the directory entry. */
  extra?: Buffer;
}

/** A ZIP written field by field, so that any of them can lie. */
export function rawZip(entries: RawEntry[], end: { count?: number; directoryOffset?: number } = {}): Buffer {
  const parts: Buffer[] = [];
  const directory: Buffer[] = [];
  let position = 0;
  for (const entry of entries) {
    const name = Buffer.from(entry.name);
    const data = entry.data ?? Buffer.alloc(0);
    const packed = entry.deflate ? deflateRawSync(data) : data;
    const extra = entry.extra ?? Buffer.alloc(0);
    const fields = Buffer.alloc(26);
    fields.writeUInt16LE(20, 0);
    fields.writeUInt16LE(entry.flags ?? 0x800, 2);
    fields.writeUInt16LE(entry.method ?? (entry.deflate ? 8 : 0), 4);
    fields.writeUInt32LE(entry.crc ?? crc32(data), 10);
    fields.writeUInt32LE(entry.compressedSize ?? packed.length, 14);
    fields.writeUInt32LE(entry.size ?? data.length, 18);
    fields.writeUInt16LE(name.length, 22);
    parts.push(Buffer.from('PK\x03\x04'), fields, name, packed);
    const start = Buffer.from('PK\x01\x02\x14\x03', 'latin1');
    const tail = Buffer.alloc(14);
    tail.writeUInt32LE(((entry.mode ?? 0) << 16) >>> 0, 6);
    tail.writeUInt32LE(entry.offset ?? position, 10);
    const listed = Buffer.from(fields);
    listed.writeUInt16LE(extra.length, 24);
    directory.push(start, listed, tail, name, extra);
    position += 30 + name.length + packed.length;
  }
  const listing = Buffer.concat(directory);
  const closing = Buffer.alloc(22);
  closing.write('PK\x05\x06', 'latin1');
  closing.writeUInt16LE(end.count ?? entries.length, 8);
  closing.writeUInt16LE(end.count ?? entries.length, 10);
  closing.writeUInt32LE(listing.length, 12);
  closing.writeUInt32LE(end.directoryOffset ?? position, 16);
  return Buffer.concat([...parts, listing, closing]);
}

export interface Line {
  image?: unknown;
  label?: unknown;
  split?: unknown;
}

export function jsonl(lines: (Line | string)[]): Buffer {
  return Buffer.from(lines.map((line) => (typeof line === 'string' ? line : JSON.stringify(line))).join('\n'));
}

export function dataUri(bytes: Buffer, mediaType = 'image/png'): string {
  return `data:${mediaType};base64,${bytes.toString('base64')}`;
}

/** Two classes with one image each, under the given folder. */
export async function twoClasses(prefix = ''): Promise<Record<string, Buffer>> {
  return { [`${prefix}cat/1.png`]: await image(1), [`${prefix}dog/1.png`]: await image(2) };
}

/** A folder that is gone when the test is over. */
export async function temporaryFolder(): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'craft-datasets-'));
  onTestFinished(() => rm(folder, { recursive: true, force: true }));
  return folder;
}

export function smallLimits(changed: Partial<DatasetLimits> = {}): DatasetLimits {
  return { ...DEFAULT_DATASET_LIMITS, ...changed };
}

/** Ingests bytes as they would come over the wire, in pieces. */
export async function ingestBytes(
  bytes: Buffer,
  changed: Partial<DatasetLimits> = {},
  options: Omit<IngestOptions, 'limits'> = {},
): Promise<Ingested & { folder: string }> {
  const folder = await temporaryFolder();
  return { folder, ...(await ingest(inPieces(bytes), folder, { limits: smallLimits(changed), ...options })) };
}

/** What an upload becomes: its report, and every image with its class. */
export async function datasetOf(
  bytes: Buffer,
  changed: Partial<DatasetLimits> = {},
  options: Omit<IngestOptions, 'limits'> = {},
) {
  const { report, folder } = await ingestBytes(bytes, changed, options);
  const dataset = await Dataset.open('file-x', folder);
  const contents = await readAll(dataset);
  await dataset.close();
  const { classes, descriptions } = dataset;
  const images = dataset.images.map(({ split, classIndex, name }, i) => ({
    split,
    label: classes[classIndex],
    name,
    bytes: contents[i],
  }));
  return { classes, descriptions, images, report };
}

export function inPieces(bytes: Buffer, size = 1000): Readable {
  const pieces = Array.from({ length: Math.ceil(bytes.length / size) }, (_, i) =>
    bytes.subarray(i * size, (i + 1) * size),
  );
  return Readable.from(pieces, { objectMode: false });
}

export function example(name: string): Promise<Buffer> {
  return readFile(new URL(`../../examples/${name}`, import.meta.url));
}

/** The bytes of a data set's images, in order. */
export function readAll(dataset: Dataset, images: readonly DatasetImage[] = dataset.images): Promise<Buffer[]> {
  return Promise.all(images.map((image) => dataset.read(image)));
}
