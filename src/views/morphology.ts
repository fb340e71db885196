import { setImmediate as turn } from 'node:timers/promises';

/** Pixels of 8 bits a sample, row by row. */
export interface Pixels {
  data: Buffer;
  width: number;
  height: number;
  channels: number;
}

/** Samples after which others in the thread get their turn: a few milliseconds. */
const SAMPLES_A_TURN = 512 * 1024;

/**
 * The largest or smallest value of each channel within reach to all sides, in a square: light or dark parts grow. With running
 * extremes of blocks as wide as a reach to both sides (van Herk 1992; Gil and Werman 1993), however far that is. Nobody else
 * in the thread waits for a large image.
 * @param pixels are used up
 */
export async function extremes(
  { data, ...size }: Pixels,
  reach: number,
  which: 'largest' | 'smallest',
): Promise<Buffer> {
  const takeTurns = turns();
  if (which === 'smallest') await invert(data, takeTurns);
  await largestAcross({ data, ...size }, reach, takeTurns);
  const result = await largestDown({ data, ...size }, reach, takeTurns);
  if (which === 'smallest') await invert(result, takeTurns);
  return result;
}

/** The smallest value is the largest one of the negative. */
async function invert(data: Buffer, takeTurns: ReturnType<typeof turns>): Promise<void> {
  for (let first = 0; first < data.length; first += SAMPLES_A_TURN) {
    const end = Math.min(data.length, first + SAMPLES_A_TURN);
    for (let at = first; at < end; at++) data[at] = 255 - data[at];
    await takeTurns(end - first);
  }
}

/** @returns to be told of so many samples that are done */
function turns(): (samples: number) => Promise<void> | undefined {
  let done = 0;
  return (samples) => {
    done += samples;
    if (done < SAMPLES_A_TURN) return undefined;
    done = 0;
    return turn();
  };
}

/** Within each row, in its place. */
async function largestAcross(
  { data, width, channels }: Pixels,
  reach: number,
  takeTurns: ReturnType<typeof turns>,
): Promise<void> {
  const row = width * channels;
  const side = reach * channels;
  const block = (2 * reach + 1) * channels;
  const padded = Math.ceil((row + 2 * side) / block) * block;
  // Beyond an edge there is nothing larger than anything.
  const line = new Uint8Array(padded);
  const forward = new Uint8Array(padded);
  const backward = new Uint8Array(padded + channels);
  for (let start = 0; start < data.length; start += row) {
    line.set(data.subarray(start, start + row), side);
    for (let first = 0; first < padded; first += block) {
      const last = first + block;
      for (let at = first; at < first + channels; at++) forward[at] = line[at];
      for (let at = first + channels; at < last; at++) {
        const [before, here] = [forward[at - channels], line[at]];
        forward[at] = before > here ? before : here;
      }
      for (let at = last - 1; at >= last - channels; at--) backward[at] = line[at];
      for (let at = last - channels - 1; at >= first; at--) {
        const [after, here] = [backward[at + channels], line[at]];
        backward[at] = after > here ? after : here;
      }
    }
    for (let at = 0, end = block - channels; at < row; at++, end++) {
      const [one, other] = [backward[at], forward[end]];
      data[start + at] = one > other ? one : other;
    }
    await takeTurns(row);
  }
}

/** Of rows as they are, one below the other. */
async function largestDown(
  { data, width, height, channels }: Pixels,
  reach: number,
  takeTurns: ReturnType<typeof turns>,
): Promise<Buffer> {
  const row = width * channels;
  const result = Buffer.alloc(data.length);
  const block = 2 * reach + 1;
  /** Of each row of a block, what is largest from it to the block's end. */
  const backward = new Uint8Array(block * row);
  /** From the beginning of the next block on. */
  const forward = new Uint8Array(row);
  for (let first = 0; first < height; first += block) {
    backward.fill(0);
    for (let r = block - 1; r >= 0; r--) {
      const to = r * row;
      if (r < block - 1) backward.copyWithin(to, to + row, to + 2 * row);
      raise(backward, to, data, first + r - reach, row, height);
      await takeTurns(row);
    }
    forward.fill(0);
    for (let r = 0; r < block && first + r < height; r++) {
      if (r > 0) raise(forward, 0, data, first + block + r - 1 - reach, row, height);
      const [from, to] = [r * row, (first + r) * row];
      for (let at = 0; at < row; at++) {
        const [one, other] = [backward[from + at], forward[at]];
        result[to + at] = one > other ? one : other;
      }
      await takeTurns(row);
    }
  }
  return result;
}

/** Raises values to those of a row of the image, where there is such a row. */
function raise(values: Uint8Array, to: number, data: Buffer, y: number, row: number, height: number): void {
  if (y < 0 || y >= height) return;
  const from = y * row;
  for (let at = 0; at < row; at++) {
    const value = data[from + at];
    if (value > values[to + at]) values[to + at] = value;
  }
}
