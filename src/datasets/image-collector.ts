import { createHash } from 'node:crypto';
import { type FileHandle, open } from 'node:fs/promises';
import { PayloadTooLargeError } from '../errors.js';
import type { Candidate } from './candidate.js';
import { type ImageFacts, ImageRefused, inspectImage } from './image-check.js';
import { imagesTooLarge } from './image-fetcher.js';
import type { DatasetLimits } from './limits.js';
import type { Split } from './manifest.js';
import type { EntryLog } from './report.js';
import { EntryUnreadable } from './zip-archive.js';

/** Where the bytes of an image that decodes are stored. */
interface StoredImage extends ImageFacts {
  sha256: string;
  offset: number;
  length: number;
}

/** An image of the upload that decodes. */
export interface CollectedImage extends StoredImage {
  entry: string;
  name: string | null;
  label: string;
  split: Split;
}

/** Checks images and appends them to the images file, each distinct one once. */
export class ImageCollector {
  readonly images: CollectedImage[] = [];
  private readonly offsets = new Map<string, number>();
  private readonly fetched = new Map<string, Promise<StoredImage>>();
  private size = 0;
  private loadedBytes = 0;
  private pixels = 0;

  private constructor(
    private readonly file: FileHandle,
    private readonly limits: DatasetLimits,
    private readonly log: EntryLog,
  ) {}

  static async create(path: string, limits: DatasetLimits, log: EntryLog): Promise<ImageCollector> {
    return new ImageCollector(await open(path, 'wx'), limits, log);
  }

  /** Size of the images file so far. */
  get imageBytes(): number {
    return this.size;
  }

  /** Takes one image, or logs why not. Several may be under way at once. */
  async add({ load, fetchKey, ...claim }: Candidate): Promise<void> {
    try {
      const stored = await (fetchKey === null ? this.keep(load) : this.keepOnce(fetchKey, load));
      this.images.push({ ...claim, ...stored });
    } catch (error) {
      if (!(error instanceof ImageRefused || error instanceof EntryUnreadable)) throw error;
      this.log.reject(claim.entry, error.reason, error.message);
    }
  }

  /** Makes what was stored durable. */
  async sync(): Promise<void> {
    await this.file.sync();
  }

  async close(): Promise<void> {
    await this.file.close();
  }

  private keepOnce(key: string, load: Candidate['load']): Promise<StoredImage> {
    const known = this.fetched.get(key);
    if (known) return known;
    const kept = this.keep(load);
    this.fetched.set(key, kept);
    return kept;
  }

  private async keep(load: Candidate['load']): Promise<StoredImage> {
    const bytes = await load();
    this.countWork(bytes.length, 0);
    const facts = await inspectImage(bytes, this.limits);
    this.countWork(0, facts.width * facts.height);
    const sha256 = createHash('sha256').update(bytes).digest('hex');
    return { ...facts, sha256, offset: await this.store(bytes, sha256), length: bytes.length };
  }

  private async store(bytes: Buffer, sha256: string): Promise<number> {
    const known = this.offsets.get(sha256);
    if (known !== undefined) return known;
    const offset = this.size;
    this.offsets.set(sha256, offset);
    this.size += bytes.length;
    for (let written = 0; written < bytes.length; ) {
      written += (await this.file.write(bytes, written, bytes.length - written, offset + written)).bytesWritten;
    }
    return offset;
  }

  /** A list may name one entry many times, and a few bytes may hold many pixels: what counts is the work done. */
  private countWork(bytes: number, pixels: number): void {
    this.loadedBytes += bytes;
    this.pixels += pixels;
    if (this.loadedBytes > this.limits.maxExpandedBytes) throw imagesTooLarge(this.limits);
    if (this.pixels > this.limits.maxTotalPixels) {
      throw new PayloadTooLargeError({
        code: 'too_many_pixels',
        param: 'file',
        message: `The images have more than ${this.limits.maxTotalPixels} pixels in all. Scale them down.`,
      });
    }
  }
}
