import { isUtf8 } from 'node:buffer';
import { type FileHandle, open } from 'node:fs/promises';
import { promisify } from 'node:util';
import { crc32, inflateRaw } from 'node:zlib';
import yauzl from 'yauzl';
import { InvalidRequestError, PayloadTooLargeError } from '../errors.js';
import { quoted } from './label-text.js';
import type { DatasetLimits } from './limits.js';
import { safeSegments } from './zip-path.js';
import { ZipReader } from './zip-reader.js';

const inflate = promisify(inflateRaw);

/** Below these sizes a high ratio does no harm and is common (a list of names, an empty canvas). */
const RATIO_FREE_ENTRY = 1024 * 1024;
const RATIO_FREE_TOTAL = 16 * 1024 * 1024;

const LOCAL_HEADER = 30;

export interface ZipEntry {
  /** Path without `.` and empty parts, composed Unicode. */
  segments: string[];
  isDirectory: boolean;
  size: number;
  compressedSize: number;
  headerOffset: number;
  method: number;
  crc32: number;
}

/** The data of one entry is damaged or packed in a way that is not read; the rest of the ZIP may be fine. */
export class EntryUnreadable extends Error {
  override readonly name = 'EntryUnreadable';
  constructor(readonly reason: 'entry_corrupt' | 'unsupported_compression') {
    super(
      reason === 'entry_corrupt'
        ? 'Its data in the ZIP is damaged. Make the ZIP again.'
        : 'It is packed with a method other than store and deflate. Make the ZIP with a usual tool.',
    );
  }
}

/** A ZIP on disk whose directory passed every check, so that reading its entries is bounded in memory and time. */
export class ZipArchive {
  private constructor(
    private readonly file: FileHandle,
    private readonly size: number,
    readonly entries: ZipEntry[],
  ) {}

  /**
   * Reads the ZIP's directory.
   * @throws InvalidRequestError for a damaged, encrypted or hostile ZIP; PayloadTooLargeError when it expands too far
   */
  static async open(path: string, limits: DatasetLimits): Promise<ZipArchive> {
    const file = await open(path, 'r');
    try {
      const { size } = await file.stat();
      const entries = await readDirectory(file, size, limits);
      checkExpansion(entries, size, limits);
      checkOverlap(entries, size);
      return new ZipArchive(file, size, entries);
    } catch (error) {
      await file.close();
      throw error;
    }
  }

  /**
   * The uncompressed bytes of an entry; the caller has looked at its declared size, which bounds them.
   * @throws EntryUnreadable
   */
  async read(entry: ZipEntry): Promise<Buffer> {
    const header = await this.readRange(entry.headerOffset, LOCAL_HEADER);
    if (header.readUInt32LE(0) !== 0x04034b50) throw new EntryUnreadable('entry_corrupt');
    if (entry.method !== 0 && entry.method !== 8) throw new EntryUnreadable('unsupported_compression');
    const start = entry.headerOffset + LOCAL_HEADER + header.readUInt16LE(26) + header.readUInt16LE(28);
    // Deflate never makes data much longer; more than this is not an honest entry.
    if (entry.compressedSize > entry.size + entry.size / 100 + 1024) throw new EntryUnreadable('entry_corrupt');
    const packed = await this.readRange(start, entry.compressedSize);
    const bytes = entry.method === 0 ? packed : await unpack(packed, entry.size);
    if (bytes.length !== entry.size || crc32(bytes) !== entry.crc32) throw new EntryUnreadable('entry_corrupt');
    return bytes;
  }

  async close(): Promise<void> {
    await this.file.close();
  }

  private async readRange(offset: number, length: number): Promise<Buffer> {
    if (offset + length > this.size) throw new EntryUnreadable('entry_corrupt');
    const buffer = Buffer.allocUnsafe(length);
    const { bytesRead } = await this.file.read(buffer, 0, length, offset);
    if (bytesRead !== length) throw new EntryUnreadable('entry_corrupt');
    return buffer;
  }
}

async function unpack(packed: Buffer, size: number): Promise<Buffer> {
  try {
    return (await inflate(packed, { maxOutputLength: Math.max(size, 1) })) as Buffer;
  } catch {
    throw new EntryUnreadable('entry_corrupt');
  }
}

async function readDirectory(file: FileHandle, size: number, limits: DatasetLimits): Promise<ZipEntry[]> {
  const entries: ZipEntry[] = [];
  let zip: yauzl.ZipFile | undefined;
  try {
    zip = await yauzl.fromRandomAccessReaderPromise(new ZipReader(file, size), size, {
      autoClose: false,
      decodeStrings: false,
      validateEntrySizes: true,
    });
    // Its errors are thrown by the iteration; one that comes after must not end the process.
    zip.on('error', () => {});
    if (zip.entryCount > limits.maxEntries) throw tooManyEntries(limits);
    for await (const entry of zip.eachEntry()) entries.push(toEntry(entry));
  } catch (error) {
    if (error instanceof InvalidRequestError) throw error;
    throw directoryFault(error);
  } finally {
    zip?.close();
  }
  return entries;
}

function toEntry(entry: yauzl.Entry): ZipEntry {
  // Many tools write UTF-8 without saying so.
  const flags = isUtf8(entry.fileNameRaw) ? entry.generalPurposeBitFlag | 0x800 : entry.generalPurposeBitFlag;
  const name = yauzl.getFileNameLowLevel(flags, entry.fileNameRaw, entry.extraFields, true);
  const segments = safeSegments(name);
  const fileType = (entry.externalFileAttributes >>> 16) & 0o170000;
  if (![0, 0o100000, 0o040000].includes(fileType)) {
    throw new InvalidRequestError({
      code: 'unsafe_path',
      param: 'file',
      message: `The ZIP entry ${quoted(name)} is a link or a device. Pack the files themselves (zip without -y).`,
    });
  }
  if (entry.isEncrypted()) throw encrypted();
  return {
    segments,
    isDirectory: name.endsWith('/'),
    size: entry.uncompressedSize,
    compressedSize: entry.compressedSize,
    headerOffset: entry.relativeOffsetOfLocalHeader,
    method: entry.compressionMethod,
    crc32: entry.crc32,
  };
}

function checkExpansion(entries: ZipEntry[], fileSize: number, limits: DatasetLimits): void {
  let total = 0;
  for (const { size, compressedSize, segments } of entries) {
    total += size;
    if (size > RATIO_FREE_ENTRY && size > compressedSize * limits.maxExpansionRatio) {
      throw zipBomb(`Its entry ${quoted(segments.join('/'))} expands more than ${limits.maxExpansionRatio} times.`);
    }
  }
  if (total > limits.maxExpandedBytes) {
    throw new PayloadTooLargeError({
      code: 'expanded_too_large',
      param: 'file',
      message: `The ZIP expands to more than ${limits.maxExpandedBytes} bytes. Upload fewer or smaller images.`,
    });
  }
  if (total > RATIO_FREE_TOTAL && total > fileSize * limits.maxExpansionRatio) {
    throw zipBomb(`It expands more than ${limits.maxExpansionRatio} times.`);
  }
}

/** Entries that share bytes are how a small file expands without end though every single ratio looks harmless. */
function checkOverlap(entries: ZipEntry[], fileSize: number): void {
  const ordered = [...entries].sort((a, b) => a.headerOffset - b.headerOffset);
  let end = 0;
  for (const { headerOffset, compressedSize } of ordered) {
    if (headerOffset < end) throw zipBomb('Its entries overlap.');
    end = headerOffset + LOCAL_HEADER + compressedSize;
  }
  if (end > fileSize) throw directoryFault(new Error('an entry lies outside of the file'));
}

function zipBomb(why: string): InvalidRequestError {
  return new InvalidRequestError({
    code: 'zip_bomb',
    param: 'file',
    message: `The ZIP is made to exhaust whoever unpacks it, or looks like it. ${why} Upload an ordinary ZIP of image files.`,
  });
}

function directoryFault(cause: unknown): InvalidRequestError {
  const message = cause instanceof Error ? cause.message : '';
  if (/encryption/.test(message)) return encrypted();
  return new InvalidRequestError({
    code: 'invalid_zip',
    param: 'file',
    message: 'The ZIP is damaged or incomplete. Check that it unpacks, then upload it again.',
    cause,
  });
}

function encrypted(): InvalidRequestError {
  return new InvalidRequestError({
    code: 'encrypted_zip',
    param: 'file',
    message: 'The ZIP is encrypted. Upload it without a password.',
  });
}

function tooManyEntries(limits: DatasetLimits): InvalidRequestError {
  return new InvalidRequestError({
    code: 'too_many_entries',
    param: 'file',
    message: `The ZIP has more than ${limits.maxEntries} entries. Upload fewer images.`,
  });
}
