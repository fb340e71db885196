import { createHash } from 'node:crypto';
import { type InferenceSession, Tensor } from 'onnxruntime-node';
import { InvalidRequestError } from '../errors.js';
import { normaliseRows } from './logits.js';
import { LruCache } from './lru.js';
import type { ModelFiles } from './model-files.js';
import type { TokenizedText } from './tokenizer.js';

/** What precedes the class names: a text with one `{}`, or context tokens [context positions, width] in its place. */
export type Prompt = { template: string } | { context: Float32Array };

// Rows of one run of the text tower. About 64 is the fastest per row, and it keeps a run at a few milliseconds.
const ROWS_PER_RUN = 64;

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
    private readonly session: InferenceSession,
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

  clear(): void {
    this.cache.clear();
    this.tokenized.clear();
  }

  /**
   * Runs hold rows of one prompt only and are cut to that prompt's own longest text, so that a prompt's features are
   * the same bits whatever else is scored with it.
   */
  private async compute(prompt: Prompt, classes: ClassList): Promise<Float32Array> {
    const texts = this.tokenize(prompt, classes);
    const length = Math.max(...texts.map((text) => text.endIndex)) + 1;
    const outputWidth = this.files.config.embed_dim;
    const features = new Float32Array(texts.length * outputWidth);
    for (let start = 0; start < texts.length; start += ROWS_PER_RUN) {
      const rows = texts.slice(start, start + ROWS_PER_RUN);
      const embeddings = this.embed(rows, length, 'context' in prompt ? prompt.context : undefined);
      const { text_features } = await this.session.run({
        prompt_embeddings: new Tensor('float32', embeddings, [rows.length, length, this.width]),
        end_index: new Tensor(
          'int64',
          BigInt64Array.from(rows, (row) => BigInt(row.endIndex)),
          [rows.length],
        ),
      });
      features.set(text_features.data as Float32Array, start * outputWidth);
    }
    normaliseRows(features, outputWidth);
    if (!features.every(Number.isFinite)) {
      throw new InvalidRequestError({
        code: 'context_out_of_range',
        message: 'context: the values are so large that the model gives no finite answer.',
        param: 'context',
      });
    }
    return features;
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

  private embed(texts: TokenizedText[], length: number, context?: Float32Array): Float32Array {
    const embeddings = new Float32Array(texts.length * length * this.width);
    for (const [row, { ids }] of texts.entries()) {
      const offset = row * length * this.width;
      for (let i = 0; i < length; i++) embeddings.set(this.embedding(ids[i]), offset + i * this.width);
      if (context !== undefined) embeddings.set(context, offset + this.width);
    }
    return embeddings;
  }

  private embedding(id: number): Float32Array {
    return this.files.tokenEmbedding.subarray(id * this.width, (id + 1) * this.width);
  }
}
