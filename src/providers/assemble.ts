import type { CallRange } from './calls.js';
import { ProviderCallError } from './provider-call-error.js';

/** Puts what a prompt was answered together from the calls that carried parts of its images and classes. */

interface Partial {
  /** [N, C] */
  logits: Float32Array;
  /** Images × classes that are still to come. */
  missing: number;
  /** What calls scored class 0, the anchor, in rounds after the first one. */
  anchors: { call: CallRange; scores: Float32Array }[];
}

/** Assembles logits [N, C] of each prompt. */
export class LogitsAssembly {
  private readonly partial = new Map<number, Partial>();

  constructor(
    private readonly imageCount: number,
    private readonly classCount: number,
    private readonly receive: (promptIndex: number, logits: Float32Array) => void,
  ) {}

  /** @param logits [call's prompts, call's images, call's classes], an anchor first where the call has one */
  add(call: CallRange, logits: Float32Array): void {
    const columns = call.classCount + (call.anchored ? 1 : 0);
    const size = call.imageCount * columns;
    for (let i = 0; i < call.promptCount; i++) {
      const part = logits.subarray(i * size, (i + 1) * size);
      const prompt = call.firstPrompt + i;
      if (call.imageCount === this.imageCount && call.classCount === this.classCount) this.receive(prompt, part);
      else this.addPart(prompt, call, part);
    }
  }

  private addPart(prompt: number, call: CallRange, part: Float32Array): void {
    const entry = this.partial.get(prompt) ?? {
      logits: new Float32Array(this.imageCount * this.classCount),
      missing: this.imageCount * this.classCount,
      anchors: [],
    };
    this.partial.set(prompt, entry);
    const skip = call.anchored ? 1 : 0;
    const columns = call.classCount + skip;
    const anchor = new Float32Array(call.anchored ? call.imageCount : 0);
    for (let n = 0; n < call.imageCount; n++) {
      const row = part.subarray(n * columns, (n + 1) * columns);
      entry.logits.set(row.subarray(skip), (call.firstImage + n) * this.classCount + call.firstClass);
      if (call.anchored) anchor[n] = row[0];
    }
    if (call.anchored) entry.anchors.push({ call, scores: anchor });
    entry.missing -= call.imageCount * call.classCount;
    if (entry.missing > 0) return;
    this.partial.delete(prompt);
    this.align(entry);
    this.receive(prompt, entry.logits);
  }

  /** Shifts the scores of each round so that the anchor has the score it had in the first one. */
  private align({ logits, anchors }: Partial): void {
    for (const { call, scores } of anchors) {
      for (let n = 0; n < call.imageCount; n++) {
        const start = (call.firstImage + n) * this.classCount;
        const shift = logits[start] - scores[n];
        for (let c = call.firstClass; c < call.firstClass + call.classCount; c++) logits[start + c] += shift;
      }
    }
  }
}

/** Assembles the embeddings [C, D] of each prompt's texts. */
export class TextsAssembly {
  private readonly partial = new Map<number, { embeddings: Float32Array; missing: number }>();

  constructor(
    private readonly classCount: number,
    private readonly receive: (promptIndex: number, embeddings: Float32Array) => void,
  ) {}

  /**
   * @param embeddings [call's prompts, call's classes, D]
   * @throws ProviderCallError when the calls of a prompt do not have the same D
   */
  add(call: CallRange, embeddings: Float32Array): void {
    const width = embeddings.length / (call.promptCount * call.classCount);
    const size = call.classCount * width;
    for (let i = 0; i < call.promptCount; i++) {
      const part = embeddings.subarray(i * size, (i + 1) * size);
      const prompt = call.firstPrompt + i;
      if (call.classCount === this.classCount) {
        this.receive(prompt, part);
        continue;
      }
      const entry = this.partial.get(prompt) ?? {
        embeddings: new Float32Array(this.classCount * width),
        missing: this.classCount,
      };
      if (entry.embeddings.length !== this.classCount * width)
        throw unequalLengths(entry.embeddings.length / this.classCount, width);
      this.partial.set(prompt, entry);
      entry.embeddings.set(part, call.firstClass * width);
      entry.missing -= call.classCount;
      if (entry.missing > 0) continue;
      this.partial.delete(prompt);
      this.receive(prompt, entry.embeddings);
    }
  }
}

function unequalLengths(first: number, other: number): ProviderCallError {
  return new ProviderCallError({
    code: 'provider_answer_invalid',
    message: `The provider's embeddings of texts have different lengths: ${first} and ${other} numbers. Set settings.dimensions in its record.`,
    billing: 'billed',
    retryable: false,
  });
}
