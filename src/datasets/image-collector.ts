import { createHash } from 'node:crypto';
import { type FileHandle, open } from 'node:fs/promises';
import { PayloadTooLargeError } from '../errors.js';
import type { Candidate } from './candidate.js';
import type { Split } from './dataset.js';
import { type ImageFacts, ImageRefused, inspectImage } from './image-check.js';
import type { DatasetLimits } from './limits.js';
import type { EntryLog } from './report.js';
import { EntryUnreadable } from './zip-archive.js';

/** An image that decodes and whose bytes are stored. */
export interface CollectedImage extends ImageFacts {
  entry: string;
  name: string | null;
  label: string;
  split: Split;
  sha256: string;
  offset: number;
  length: number;
}

/** Checks images and appends them to the images file, each distinct one once. */
export class ImageCollector {
  readonly images: CollectedImage[] = [];
  private readonly offsets = new Map<string, number>();
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
  async add({ load, ...claim }: Candidate): Promise<void> {
    try {
      const bytes = await load();
      this.countWork(bytes.length, 0);
      const facts = await inspectImage(bytes, this.limits);
      this.countWork(0, facts.width * facts.height);
      const sha256 = createHash('sha256').update(bytes).digest('hex');
      this.images.push({ ...claim, ...facts, sha256, offset: await this.store(bytes, sha256), length: bytes.length });
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
    if (this.loadedBytes > this.limits.maxExpandedBytes) {
      throw new PayloadTooLargeError({
        code: 'expanded_too_large',
        param: 'file',
        message: `The images have more than ${this.limits.maxExpandedBytes} bytes. Upload fewer or smaller images.`,
      });
    }
    if (this.pixels > this.limits.maxTotalPixels) {
      throw new PayloadTooLargeError({
        code: 'too_many_pixels',
        param: 'file',
        message: `The images have more than ${this.limits.maxTotalPixels} pixels in all. Scale them down.`,
      });
    }
  }
}
