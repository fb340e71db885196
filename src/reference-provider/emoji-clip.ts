import { setImmediate as nextTurn } from 'node:timers/promises';
import { ImageFeatures } from './image-features.js';
import type { ImageInput } from './image-input.js';
import { CosineLogits } from './logits.js';
import { type ModelConfig, readModelFiles } from './model-files.js';
import { sideBySide } from './side-by-side.js';
import { ClassList, type Prompt, TextFeatures } from './text-features.js';
import { TowerThreads } from './tower-threads.js';

export interface ScoreRequest {
  images: ImageInput[];
  classNames: string[];
  prompts: Prompt[];
}

/** An image or a text to be embedded. */
export type EmbeddingInput = { image: ImageInput } | { text: string };

export interface EmojiClipOptions {
  /** Holds config.json, tokenizer.json, token_embedding.safetensors, vision.onnx and text.onnx. */
  modelDirectory: string;
  /** Threads for model runs; by default the number of cores, at most four. */
  threads?: number;
  /** Images whose features are remembered (512 bytes each). */
  maxCachedImages?: number;
}

const DEFAULT_CACHED_IMAGES = 65_536;
const CACHED_TEXT_FLOATS = 16 * 1024 * 1024;
// The logits of large requests are computed in slices of about this many milliseconds, so that others get a turn.
const SLICE_MS = 10;

/** The black box: a small CLIP, from encoded images, class names and prompts to logits. */
export class EmojiClip {
  private constructor(
    readonly config: ModelConfig,
    private readonly images: ImageFeatures,
    private readonly texts: TextFeatures,
    private readonly cosine: CosineLogits,
    private readonly towers: TowerThreads,
  ) {}

  static async load(options: EmojiClipOptions): Promise<EmojiClip> {
    const files = await readModelFiles(options.modelDirectory);
    const towers = await TowerThreads.open(files, options.threads);
    const { config } = files;
    const images = await ImageFeatures.open(towers, config, options.maxCachedImages ?? DEFAULT_CACHED_IMAGES);
    const texts = new TextFeatures(towers, files, CACHED_TEXT_FLOATS);
    return new EmojiClip(config, images, texts, new CosineLogits(config.embed_dim, config.logit_scale), towers);
  }

  /** Context tokens [context positions, width] that give the same answers as the default template. */
  initialContext(): Float32Array {
    return this.texts.initialContext();
  }

  /** Logits [prompts, images, classes], row-major. The same inputs give the same bits in whatever company they come. */
  async score(request: ScoreRequest): Promise<Float32Array> {
    const classes = new ClassList(request.classNames);
    const imageFeatures = await this.images.of(request.images);
    const perPrompt = request.images.length * classes.names.length;
    const logits = new Float32Array(request.prompts.length * perPrompt);
    let sliceEnd = performance.now() + SLICE_MS;
    await sideBySide(request.prompts.length, this.towers.lanes, async (p) => {
      const texts = await this.texts.of(request.prompts[p], classes);
      this.cosine.compute(imageFeatures, texts, logits.subarray(p * perPrompt, (p + 1) * perPrompt));
      if (performance.now() > sliceEnd) {
        await nextTurn();
        sliceEnd = performance.now() + SLICE_MS;
      }
    });
    return logits;
  }

  /**
   * L2-normalised features [inputs, embed_dim], row-major; `logit_scale` times the cosine of an image's and a text's is
   * their logit. The same input gives the same bits in whatever company it comes.
   */
  async embed(inputs: EmbeddingInput[]): Promise<Float32Array> {
    const width = this.config.embed_dim;
    const images = await this.images.of(inputs.flatMap((input) => ('image' in input ? [input.image] : [])));
    const texts = await this.texts.ofTexts(inputs.flatMap((input) => ('text' in input ? [input.text] : [])));
    const features = new Float32Array(inputs.length * width);
    let image = 0;
    let text = 0;
    for (const [i, input] of inputs.entries()) {
      const row = 'image' in input ? rowOf(images, image++, width) : rowOf(texts, text++, width);
      features.set(row, i * width);
    }
    return features;
  }

  /** Tokens of a text, as the model's own tokenizer cuts it. */
  countTokens(text: string): number {
    return this.texts.countTokens(text);
  }

  /** Forgets all remembered features; references to images sent before become unknown. */
  forget(): void {
    this.images.clear();
    this.texts.clear();
  }

  async close(): Promise<void> {
    await this.towers.close();
  }
}

function rowOf(rows: Float32Array, index: number, width: number): Float32Array {
  return rows.subarray(index * width, (index + 1) * width);
}
