import { createHash } from 'node:crypto';
import { mostTokens } from './amounts.js';
import { bytesOfEmbeddings } from './answer-bounds.js';
import { dialectOf, type EmbeddingDialect } from './embedding-dialects.js';
import { HttpProvider, textCapabilities } from './http-provider.js';
import { SCALING_VERSION } from './image-encoder.js';
import type {
  BilledAmounts,
  CallOptions,
  EmbeddingAnswer,
  EmbeddingProvider,
  ProviderCapabilities,
  ProviderImage,
  ProviderPrices,
} from './provider.js';
import type { ConnectionOf } from './provider-connection.js';

/**
 * Models that embed images and texts in one space: logits are scale · cosine, computed here. An image is embedded once
 * and kept, so that a prompt evaluation costs the embeddings of its texts and no image query.
 */

/** Instructions that models put before what they embed. */
const TOKENS_PER_REQUEST = 64;
/** For every text: what marks its ends. */
const TOKENS_PER_TEXT = 4;

/** The protocol has no request that costs nothing, so that nothing is checked but the record. */
export async function describeEmbeddings(connection: ConnectionOf<'embeddings'>): Promise<ProviderCapabilities> {
  const { settings } = connection;
  const dialect = dialectOf(settings.dialect);
  const perImage = settings.max_image_tokens ?? dialect.maxImageTokens;
  const texts = Math.min(settings.texts_per_request, dialect.maxTextsPerRequest ?? Number.POSITIVE_INFINITY);
  return textCapabilities(connection, {
    defaultTemplate: settings.template,
    returns: 'embeddings',
    billingUnit: 'token',
    maxImagesPerRequest: dialect.maxImagesPerRequest(perImage),
    maxPromptsPerRequest: null,
    maxTextsPerRequest: texts,
    tokens: {
      perImage,
      perRequest: TOKENS_PER_REQUEST + texts * TOKENS_PER_TEXT,
      bytesPerToken: settings.bytes_per_token,
      outputPerRequest: 0,
    },
  });
}

export class EmbeddingsProvider extends HttpProvider<'embeddings'> implements EmbeddingProvider {
  readonly kind = 'embedding';
  readonly scale: number;
  readonly imageSpace: string;
  readonly textSpace: string;
  private readonly dialect: EmbeddingDialect;

  constructor(connection: ConnectionOf<'embeddings'>, capabilities: ProviderCapabilities, prices: ProviderPrices) {
    super(connection, capabilities, prices, {
      largeAnswerRemedy: 'Lower settings.texts_per_request or limits.images_per_request in its record.',
    });
    const { settings } = connection;
    this.scale = settings.scale;
    this.dialect = dialectOf(settings.dialect);
    const { dialect, dimensions, image_input_type, text_input_type, image_size, extra_body } = settings;
    const scaling = image_size && { ...image_size, version: SCALING_VERSION };
    this.imageSpace = hashOf([this.remoteModel, dialect, dimensions, image_input_type, scaling, extra_body]);
    this.textSpace = hashOf([this.remoteModel, dialect, dimensions, text_input_type, extra_body]);
  }

  async embedImages(images: ProviderImage[], options: CallOptions): Promise<EmbeddingAnswer> {
    const uris = await Promise.all(images.map((image) => this.images.dataUri(image)));
    return this.embed({ images: uris }, uris.length, 0, options);
  }

  async embedTexts(texts: string[], options: CallOptions): Promise<EmbeddingAnswer> {
    const bytes = texts.reduce((sum, text) => sum + Buffer.byteLength(text), 0);
    return this.embed({ texts }, 0, bytes, options);
  }

  private async embed(
    content: { images: string[] } | { texts: string[] },
    imageCount: number,
    textBytes: number,
    options: CallOptions,
  ): Promise<EmbeddingAnswer> {
    const { settings } = this.connection;
    const texts = 'texts' in content ? content.texts : [];
    const expected = imageCount + texts.length;
    const answer = await this.postJson(
      settings.path ?? this.dialect.path,
      { ...settings.extra_body, ...this.dialect.request(this.remoteModel, content, settings) },
      { ...options, content: { images: imageCount, texts }, maxResponseBytes: bytesOfEmbeddings(expected) },
    );
    const rows = this.dialect.embeddings(answer, expected);
    if (rows === null) throw this.invalidAnswer('It is no list of embeddings.');
    if (rows.length !== expected) throw this.invalidAnswer(`It has ${rows.length} embeddings, not ${expected}.`);
    return {
      embeddings: this.normalised(rows),
      billed: this.billedBy(answer, imageCount, textBytes),
    };
  }

  private billedBy(answer: unknown, imageCount: number, textBytes: number): BilledAmounts | null {
    const most = mostTokens(this, { images: imageCount, texts: textBytes });
    return this.billedByTokens(imageCount, { input: this.dialect.inputTokens(answer) }, most);
  }

  /** @returns [rows, D], each of length 1 */
  private normalised(rows: number[][]): Float32Array {
    const width = rows[0].length;
    const { dimensions = width } = this.connection.settings;
    if (width !== dimensions) {
      throw this.invalidAnswer(`Its embeddings have ${width} numbers, not ${dimensions} (settings.dimensions).`);
    }
    const embeddings = new Float32Array(rows.length * width);
    for (const [r, row] of rows.entries()) {
      if (row.length !== width) {
        throw this.invalidAnswer(`Its embeddings have different lengths, such as ${width} and ${row.length}.`);
      }
      if (!writeDirection(row, embeddings.subarray(r * width, (r + 1) * width))) {
        throw this.invalidAnswer(`Embedding ${r} has no direction.`);
      }
    }
    return embeddings;
  }
}

/**
 * Writes the vector of length 1 that has the direction of `row`, however large or small its numbers are.
 * @returns false where all of them are 0
 */
function writeDirection(row: number[], target: Float32Array): boolean {
  const largest = row.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
  if (largest === 0) return false;
  const length = Math.sqrt(row.reduce((sum, value) => sum + (value / largest) ** 2, 0));
  for (const [k, value] of row.entries()) target[k] = value / largest / length;
  return true;
}

function hashOf(decisive: unknown[]): string {
  return createHash('sha256').update(JSON.stringify(decisive)).digest('hex').slice(0, 16);
}
