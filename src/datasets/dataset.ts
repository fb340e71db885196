import { type FileHandle, open } from 'node:fs/promises';
import { join } from 'node:path';
import { DatasetCorruptError, IMAGES_FILE, readManifest } from './manifest.js';

export type Split = 'train' | 'validation';

export interface DatasetImage {
  split: Split;
  /** Index into the data set's classes. */
  classIndex: number;
  /** Where it lay in the ZIP; for an image embedded in a JSONL, a name made from its checksum. Unique in the set. */
  name: string;
  /** Of the image file's bytes. */
  sha256: string;
  offset: number;
  length: number;
  width: number;
  height: number;
  mediaType: string;
}

/** Images that lie within this distance are read in one go. */
const READ_GAP = 64 * 1024;
const READ_SPAN = 8 * 1024 * 1024;

/** A stored data set, open for reading. Images are in a fixed order: by split (train first), class and name. */
export class Dataset {
  private constructor(
    readonly id: string,
    readonly classes: string[],
    readonly images: DatasetImage[],
    private readonly file: FileHandle,
  ) {}

  /**
   * Opens the data set that lies in `folder`. It stays readable until `close()`, even if it is deleted meanwhile.
   * @throws DatasetCorruptError when its files are missing, damaged or of another version
   */
  static async open(id: string, folder: string): Promise<Dataset> {
    const manifest = await readManifest(folder);
    let file: FileHandle;
    try {
      file = await open(join(folder, IMAGES_FILE), 'r');
    } catch (cause) {
      throw new DatasetCorruptError('its images are missing', cause);
    }
    try {
      const { size } = await file.stat();
      if (size !== manifest.imageBytes) {
        throw new DatasetCorruptError(`its images take ${size} bytes instead of ${manifest.imageBytes}`);
      }
      return new Dataset(id, manifest.classes, manifest.images, file);
    } catch (error) {
      await file.close();
      throw error;
    }
  }

  /** The bytes of one image file, as they were uploaded. */
  async read(image: DatasetImage): Promise<Buffer> {
    return this.readRange(image.offset, image.length);
  }

  /** The bytes of many image files, in the order asked for. Neighbours on disk are read together. */
  async readAll(images: readonly DatasetImage[] = this.images): Promise<Buffer[]> {
    const order = images.map((_, index) => index).sort((a, b) => images[a].offset - images[b].offset);
    const result = new Array<Buffer>(images.length);
    for (let from = 0; from < order.length; ) {
      const start = images[order[from]].offset;
      let end = start + images[order[from]].length;
      let to = from + 1;
      while (to < order.length) {
        const next = images[order[to]];
        const nextEnd = Math.max(end, next.offset + next.length);
        if (next.offset - end > READ_GAP || nextEnd - start > READ_SPAN) break;
        end = nextEnd;
        to++;
      }
      const span = await this.readRange(start, end - start);
      for (const index of order.slice(from, to)) {
        const { offset, length } = images[index];
        result[index] = span.subarray(offset - start, offset - start + length);
      }
      from = to;
    }
    return result;
  }

  async close(): Promise<void> {
    await this.file.close();
  }

  private async readRange(offset: number, length: number): Promise<Buffer> {
    const buffer = Buffer.allocUnsafe(length);
    let filled = 0;
    while (filled < length) {
      const { bytesRead } = await this.file.read(buffer, filled, length - filled, offset + filled);
      if (bytesRead === 0) throw new DatasetCorruptError('its images end too early');
      filled += bytesRead;
    }
    return buffer;
  }
}
