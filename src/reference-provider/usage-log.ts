import { closeSync, constants, ftruncateSync, mkdirSync, openSync, readSync, writeSync } from 'node:fs';
import { dirname } from 'node:path';
import { z } from 'zod';

const order = z.object({
  client: z.string(),
  key: z.string().optional(),
  /** Hash of the question, where there is a key. */
  question: z.string().optional(),
  time: z.iso.datetime(),
});
const purchase = z.union([
  order.extend({ prompts: z.number().int().positive(), images: z.number().int().positive() }),
  order.extend({ embedded: z.object({ images: z.number().int().min(0), texts: z.number().int().min(0) }) }),
]);

/** An answer that was served. */
export type Purchase = z.infer<typeof purchase>;

const LINE_END = 0x0a;
const READ_BYTES = 1024 * 1024;

/**
 * The purchases in a file of one JSON line each. A line is with the operating system before `append` returns, so that it
 * outlives this process, however that ends (it need not outlive the machine). The file belongs to one process at a time.
 */
export class UsageLog {
  private closed = false;

  private constructor(
    private readonly file: number,
    /** Where the complete lines end; what lies beyond was never finished and is written over. */
    private size: number,
  ) {}

  /** Opens or creates the file, handing each purchase in it to `each`. */
  static open(path: string, each: (purchase: Purchase) => void): UsageLog {
    mkdirSync(dirname(path), { recursive: true });
    const file = openSync(path, constants.O_RDWR | constants.O_CREAT, 0o600);
    try {
      let size = 0;
      let count = 0;
      for (const line of completeLines(file)) {
        count += 1;
        each(parse(line, `${path}:${count}`));
        size += line.length + 1;
      }
      ftruncateSync(file, size);
      return new UsageLog(file, size);
    } catch (error) {
      closeSync(file);
      throw error;
    }
  }

  append(entry: Purchase): void {
    // The descriptor may stand for another file by now.
    if (this.closed) throw new Error('The usage log is closed.');
    const line = Buffer.from(`${JSON.stringify(entry)}\n`);
    for (let done = 0; done < line.length; ) {
      done += writeSync(this.file, line, done, line.length - done, this.size + done);
    }
    this.size += line.length;
  }

  clear(): void {
    ftruncateSync(this.file, 0);
    this.size = 0;
  }

  close(): void {
    if (this.closed) return;
    this.closed = true;
    closeSync(this.file);
  }
}

function parse(line: Buffer, where: string): Purchase {
  try {
    return purchase.parse(JSON.parse(line.toString()));
  } catch (cause) {
    throw new Error(`${where} is no purchase; what was served cannot be told from this file.`, { cause });
  }
}

/** The lines of a file; text after the last line's end is none, for its writer did not finish it. */
function* completeLines(file: number): Generator<Buffer> {
  const chunk = Buffer.alloc(READ_BYTES);
  let rest = Buffer.alloc(0);
  let position = 0;
  for (;;) {
    const length = readSync(file, chunk, 0, chunk.length, position);
    if (length === 0) return;
    position += length;
    rest = Buffer.concat([rest, chunk.subarray(0, length)]);
    for (let end = rest.indexOf(LINE_END); end >= 0; end = rest.indexOf(LINE_END)) {
      yield rest.subarray(0, end);
      rest = rest.subarray(end + 1);
    }
  }
}
