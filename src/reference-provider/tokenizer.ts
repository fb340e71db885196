import { readFile } from 'node:fs/promises';
import { z } from 'zod';

const file = z.object({
  vocabulary: z.array(z.string()).min(4),
  pad: z.string(),
  start: z.string(),
  end: z.string(),
  unknown: z.string(),
  context_length: z.number().int().min(3),
  split: z.string(),
  lowercase: z.boolean(),
});

export interface TokenizedText {
  /** `contextLength` token ids: start, pieces, end, padding. */
  ids: Int32Array;
  /** Position of the end token in `ids`. */
  endIndex: number;
}

/** Words, digits and signs to token ids; a word outside the vocabulary falls back to its characters. */
export class Tokenizer {
  readonly contextLength: number;
  readonly vocabularySize: number;
  private readonly idOf: Map<string, number>;
  private readonly pattern: RegExp;
  private readonly lowercase: boolean;
  private readonly special: { pad: number; start: number; end: number; unknown: number };

  constructor(definition: unknown) {
    const parsed = file.parse(definition);
    this.contextLength = parsed.context_length;
    this.vocabularySize = parsed.vocabulary.length;
    this.idOf = new Map(parsed.vocabulary.map((piece, id) => [piece, id]));
    // Without the u flag a character outside the basic plane would match as two halves.
    this.pattern = new RegExp(parsed.split, 'gu');
    const { pad, start, end, unknown } = parsed;
    this.special = { pad: this.id(pad), start: this.id(start), end: this.id(end), unknown: this.id(unknown) };
    this.lowercase = parsed.lowercase;
  }

  static async load(path: string): Promise<Tokenizer> {
    return new Tokenizer(JSON.parse(await readFile(path, 'utf8')));
  }

  /** Texts that are too long keep their first `contextLength - 2` pieces. */
  encode(text: string): TokenizedText {
    const pieces: number[] = [];
    const room = this.contextLength - 2;
    for (const piece of this.pieces(text)) {
      if (pieces.length >= room) break;
      pieces.push(piece);
    }
    const ids = new Int32Array(this.contextLength).fill(this.special.pad);
    ids[0] = this.special.start;
    ids.set(pieces, 1);
    const endIndex = pieces.length + 1;
    ids[endIndex] = this.special.end;
    return { ids, endIndex };
  }

  /** Pieces of the whole text, however long; start, end and padding are not counted. */
  count(text: string): number {
    let count = 0;
    for (const _ of this.pieces(text)) count += 1;
    return count;
  }

  private *pieces(text: string): Generator<number> {
    for (const [word] of (this.lowercase ? text.toLowerCase() : text).matchAll(this.pattern)) {
      const id = this.idOf.get(word);
      if (id !== undefined) yield id;
      else for (const character of word) yield this.idOf.get(character) ?? this.special.unknown;
    }
  }

  private id(piece: string): number {
    const id = this.idOf.get(piece);
    if (id === undefined) throw new Error(`The tokenizer's vocabulary lacks ${piece}.`);
    return id;
  }
}
