import { createHash } from 'node:crypto';
import { InvalidRequestError } from '../errors.js';
import { LruCache } from './lru.js';
import type { ModelFiles } from './model-files.js';
import { sideBySide } from './side-by-side.js';
import type { TokenizedText } from './tokenizer.js';
import type { TowerThreads } from './tower-threads.js';

/** What precedes the class names: a text with one `{}`, or context tokens [context positions, width] in its place. */
export type Prompt = { template: string } | { context: Float32Array };

// Rows of one run of the text tower. About 64 is the fastest per row, and it keeps a run at a few milliseconds.
const ROWS_PER_RUN = 64;

// Rows of one run where texts come without a prompt: every run is filled up to as many, so that a text that comes
// alone should not take long either.
const TEXTS_PER_RUN = 8;

/** The class names of a request, with the digest under which their features are cached. */
export class ClassList {
  readonly digest: string;
  constructor(readonly names: string[]) {
    this.digest = createHash('sha256').update(JSON.stringify(names)).digest('hex');
  }
}

/** The text tower behind a cache of features by prompt and class list. */
export class TextFeatures {
  private readonly cache: LruCache<Promise<Float32Array>>;
  private readonly tokenized = new LruCache<TokenizedText[]>(64);
  private readonly width: number;

  /** @param maxCachedFloats the cache's bound, in numbers of 4 bytes each. */
  constructor(
    private readonly towers: TowerThreads,
    private readonly files: ModelFiles,
    maxCachedFloats: number,
  ) {
    this.width = files.config.text.width;
    this.cache = new LruCache(maxCachedFloats);
  }

  /** The token embeddings [context positions, width] at which the context of the default template starts. */
  initialContext(): Float32Array {
    const { context_positions, default_template } = this.files.config.text;
    const { ids } = this.files.tokenizer.encode(default_template);
    const context = new Float32Array(context_positions.length * this.width);
    for (const [i, position] of context_positions.entries()) context.set(this.embedding(ids[position]), i * this.width);
    return context;
  }

  /** L2-normalised features [classes, embed_dim] of one prompt completed by each class name. */
  of(prompt: Prompt, classes: ClassList): Promise<Float32Array> {
    const hash = createHash('sha256').update(classes.digest);
    if ('template' in prompt) hash.update('template').update(prompt.template);
    else hash.update('context').update(prompt.context);
    const key = hash.digest('base64');
    const known = this.cache.get(key);
    if (known !== undefined) return known;
    const pending = this.compute(prompt, classes);
    this.cache.set(key, pending, classes.names.length * this.files.config.embed_dim);
    pending.catch(() => this.cache.delete(key));
    return pending;
  }

  /** L2-normalised features [texts, embed_dim] of whole texts. */
  async ofTexts(texts: string[]): Promise<Float32Array> {
    const features = await Promise.all(this.lookUp(texts));
    const width = this.files.config.embed_dim;
    const rows = new Float32Array(texts.length * width);
    for (const [i, row] of features.entries()) rows.set(row, i * width);
    return rows;
  }

  /** Tokens of the whole text, though the model reads only the first of a long one. */
  countTokens(text: string): number {
    return this.files.tokenizer.count(text);
  }

  clear(): void {
    this.cache.clear();
    this.tokenized.clear();
  }

  private lookUp(texts: string[]): Promise<Float32Array>[] {
    const held = new Map<string, Promise<Float32Array>>();
    for (const text of texts) {
      const known = this.cache.get(keyOfText(text));
      if (known !== undefined) held.set(text, known);
    }
    const missing = [...new Set(texts)].filter((text) => !held.has(text));
    const computed = this.computeTexts(missing);
    for (const text of missing) {
      const pending = computed.then((features) => features.get(text) as Float32Array);
      held.set(text, pending);
      this.cache.set(keyOfText(text), pending, this.files.config.embed_dim);
      pending.catch(() => this.cache.delete(keyOfText(text)));
    }
    return texts.map((text) => held.get(text) as Promise<Float32Array>);
  }

  /**
   * Runs hold rows of one prompt only and are cut to that prompt's own longest text, so that a prompt's features are
   * the same bits whatever else is scored with it.
   */
  private async compute(prompt: Prompt, classes: ClassList): Promise<Float32Array> {
    const texts = this.tokenize(prompt, classes);
    const length = Math.max(...texts.map((text) => text.endIndex)) + 1;
    const outputWidth = this.files.config.embed_dim;
    const context = 'context' in prompt ? prompt.context : undefined;
    const features = new Float32Array(texts.length * outputWidth);
    await sideBySide(Math.ceil(texts.length / ROWS_PER_RUN), this.towers.lanes, async (run) => {
      const start = run * ROWS_PER_RUN;
      features.set(await this.run(texts.slice(start, start + ROWS_PER_RUN), length, context), start * outputWidth);
    });
    if (!allFinite(features)) {
      throw new InvalidRequestError({
        code: 'context_out_of_range',
        message: 'context: the values are so large that the model gives no finite answer.',
        param: 'context',
      });
    }
    return features;
  }

  /**
   * Every run has the same number of rows, all of one length, the last ones filled up with copies: a text's features
   * are the same bits whatever texts it comes with.
   */
  private async computeTexts(texts: string[]): Promise<Map<string, Float32Array>> {
    const features = new Map<string, Float32Array>();
    const width = this.files.config.embed_dim;
    for (const [length, group] of this.byLength(texts)) {
      for (let start = 0; start < group.length; start += TEXTS_PER_RUN) {
        const some = group.slice(start, start + TEXTS_PER_RUN);
        const rows = Array.from({ length: TEXTS_PER_RUN }, (_, i) => some[Math.min(i, some.length - 1)].tokens);
        const output = await this.run(rows, length);
        for (const [i, { text }] of some.entries()) features.set(text, output.slice(i * width, (i + 1) * width));
      }
    }
    return features;
  }

  private byLength(texts: string[]): Map<number, { text: string; tokens: TokenizedText }[]> {
    const groups = new Map<number, { text: string; tokens: TokenizedText }[]>();
    for (const text of texts) {
      const tokens = this.files.tokenizer.encode(text);
      const length = tokens.endIndex + 1;
      const group = groups.get(length) ?? [];
      group.push({ text, tokens });
      groups.set(length, group);
    }
    return groups;
  }

  /** L2-normalised features [rows, embed_dim] of one run of the tower, cut to `length` tokens. */
  private run(rows: TokenizedText[], length: number, context?: Float32Array): Promise<Float32Array> {
    const ids = new Int32Array(rows.length * length);
    for (const [row, text] of rows.entries()) ids.set(text.ids.subarray(0, length), row * length);
    // A copy, because all that the context is a view of would be sent with it.
    return this.towers.run({
      tower: 'text',
      ids,
      ends: Int32Array.from(rows, ({ endIndex }) => endIndex),
      length,
      context: context?.slice(),
    });
  }

  private tokenize(prompt: Prompt, classes: ClassList): TokenizedText[] {
    const template = 'template' in prompt ? prompt.template : this.files.config.text.default_template;
    const key = `${classes.digest} ${template}`;
    const known = this.tokenized.get(key);
    if (known !== undefined) return known;
    const texts = classes.names.map((name) => this.files.tokenizer.encode(template.replace('{}', () => name)));
    this.tokenized.set(key, texts);
    return texts;
  }

  private embedding(id: number): Float32Array {
    return this.files.tokenEmbedding.subarray(id * this.width, (id + 1) * this.width);
  }
}

function keyOfText(text: string): string {
  return createHash('sha256').update('text').update(text).digest('base64');
}

/** As `every(Number.isFinite)`, but without a call for each number. */
function allFinite(values: Float32Array): boolean {
  for (let i = 0; i < values.length; i++) if (!Number.isFinite(values[i])) return false;
  return true;
}
