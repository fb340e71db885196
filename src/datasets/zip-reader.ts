import type { FileHandle } from 'node:fs/promises';
import yauzl from 'yauzl';

const WINDOW = 256 * 1024;

/**
 * Lets yauzl read a file through a window: a ZIP's directory is read in very small steps. A range outside of the file is
 * an error, never an exception inside of yauzl's callbacks.
 */
export class ZipReader extends yauzl.RandomAccessReader {
  private window = Buffer.alloc(0);
  private windowStart = 0;

  constructor(
    private readonly file: FileHandle,
    private readonly size: number,
  ) {
    super();
  }

  override read(
    target: Buffer,
    offset: number,
    length: number,
    position: number,
    callback: (error: Error | null) => void,
  ): void {
    this.fill(position, length).then(
      () => {
        const from = position - this.windowStart;
        this.window.copy(target, offset, from, from + length);
        callback(null);
      },
      (error: Error) => callback(error),
    );
  }

  private async fill(position: number, length: number): Promise<void> {
    if (!(position >= 0 && position + length <= this.size)) throw new Error('a range outside of the file');
    if (position >= this.windowStart && position + length <= this.windowStart + this.window.length) return;
    const wanted = Math.min(Math.max(length, WINDOW), this.size - position);
    const window = Buffer.allocUnsafe(wanted);
    const { bytesRead } = await this.file.read(window, 0, wanted, position);
    if (bytesRead < length) throw new Error('unexpected end of file');
    this.window = window.subarray(0, bytesRead);
    this.windowStart = position;
  }
}
