import { crc32, type Inflate, inflateSync } from 'node:zlib';

/** Bytes of decoded rows up to which the check takes well under a millisecond, so that it need not leave the thread. */
const MOST_ROW_BYTES = 128 * 1024;
/** Bytes of a file that the same holds for, whatever its chunks are. */
const MOST_FILE_BYTES = 2 * MOST_ROW_BYTES;
const SIGNATURE = Buffer.from('\x89PNG\r\n\x1a\n', 'latin1');
/** Samples of a pixel by colour type, of those types of which every value is a colour. */
const SAMPLES: Record<number, number> = { 0: 1, 2: 3, 4: 2, 6: 4 };
/** Chunks of which nothing can be wrong that a decoder would mind. */
const HARMLESS = ['pHYs', 'gAMA', 'cHRM', 'sRGB', 'tEXt', 'tIME'];
const HIGHEST_FILTER = 4;

interface Header {
  width: number;
  height: number;
  rowBytes: number;
}

/**
 * Whether bytes surely are a small PNG that every decoder takes: 8 bits a sample, no palette, not interlaced, every chunk with
 * the right checksum, and exactly the rows that the header announces (W3C PNG, third edition). The general decoder, which is a
 * pipeline for large images, takes ten times as long to tell.
 * @returns its size; null where only a decoder can tell
 */
export function wholeSmallPng(bytes: Buffer): { width: number; height: number } | null {
  const chunks = bytes.length <= MOST_FILE_BYTES ? readChunks(bytes) : null;
  const header = chunks && readHeader(chunks[0]);
  if (!chunks || !header) return null;
  const { width, height, rowBytes } = header;
  const expected = height * (1 + rowBytes);
  if (expected > MOST_ROW_BYTES) return null;
  const rows = inflate(dataOf(chunks), expected);
  if (rows?.length !== expected) return null;
  for (let at = 0; at < expected; at += 1 + rowBytes) if (rows[at] > HIGHEST_FILTER) return null;
  return { width, height };
}

interface Chunk {
  type: string;
  data: Buffer;
}

/** @returns IHDR, one run of IDAT, IEND, and nothing else but what is harmless; null otherwise */
function readChunks(bytes: Buffer): Chunk[] | null {
  if (!bytes.subarray(0, SIGNATURE.length).equals(SIGNATURE)) return null;
  const chunks: Chunk[] = [];
  let at = SIGNATURE.length;
  while (at + 12 <= bytes.length) {
    const end = at + 8 + bytes.readUInt32BE(at);
    if (end + 4 > bytes.length || crc32(bytes.subarray(at + 4, end)) !== bytes.readUInt32BE(end)) return null;
    chunks.push({ type: bytes.toString('latin1', at + 4, at + 8), data: bytes.subarray(at + 8, end) });
    at = end + 4;
  }
  if (at !== bytes.length) return null;
  const order = chunks.flatMap(({ type }) => (HARMLESS.includes(type) ? [] : type)).join(' ');
  const isRun = chunks.findLastIndex(isData) - chunks.findIndex(isData) + 1 === chunks.filter(isData).length;
  return /^IHDR( IDAT)+ IEND$/.test(order) && chunks[0].type === 'IHDR' && isRun ? chunks : null;
}

function isData({ type }: Chunk): boolean {
  return type === 'IDAT';
}

function dataOf(chunks: Chunk[]): Buffer {
  const data = chunks.filter(isData).map((chunk) => chunk.data);
  return data.length === 1 ? data[0] : Buffer.concat(data);
}

function readHeader({ data }: Chunk): Header | null {
  if (data.length !== 13) return null;
  const [depth, colourType, compression, filter, interlace] = data.subarray(8);
  const samples = SAMPLES[colourType];
  if (depth !== 8 || samples === undefined || compression + filter + interlace !== 0) return null;
  const [width, height] = [data.readUInt32BE(0), data.readUInt32BE(4)];
  return width > 0 && height > 0 ? { width, height, rowBytes: width * samples } : null;
}

/** @returns what all of the data inflates to; null where something is wrong with it, or it is more than `most` bytes */
function inflate(data: Buffer, most: number): Buffer | null {
  try {
    // With `info` it answers both, which its types do not say.
    const options = { maxOutputLength: most, info: true };
    const { buffer, engine } = inflateSync(data, options) as unknown as { buffer: Buffer; engine: Inflate };
    return engine.bytesWritten === data.length ? buffer : null;
  } catch {
    return null;
  }
}
