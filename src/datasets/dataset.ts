import { type FileHandle, open } from 'node:fs/promises';
import { join } from 'node:path';
import { DatasetCorruptError, type DatasetImage, IMAGES_FILE, readManifest } from './manifest.js';

/** A stored data set, open for reading. Images are in a fixed order: by split (train first), class and name. */
export class Dataset {
  private constructor(
    readonly id: string,
    readonly classes: string[],
    /** What the uploader says of each class; null where nothing. */
    readonly descriptions: (string | null)[],
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
      return new Dataset(id, manifest.classes, manifest.descriptions, manifest.images, file);
    } catch (error) {
      await file.close();
      throw error;
    }
  }

  /** The bytes of one image file, as they were uploaded. */
  async read(image: DatasetImage): Promise<Buffer> {
    const buffer = Buffer.allocUnsafe(image.length);
    let filled = 0;
    while (filled < image.length) {
      const { bytesRead } = await this.file.read(buffer, filled, image.length - filled, image.offset + filled);
      if (bytesRead === 0) throw new DatasetCorruptError('its images end too early');
      filled += bytesRead;
    }
    return buffer;
  }

  async close(): Promise<void> {
    await this.file.close();
  }
}
