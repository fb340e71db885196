import { z } from 'zod';
import { listOf, vector } from './answer-bounds.js';
import type { EmbeddingsSettings } from './settings/embeddings.js';

/** How each embeddings API words its requests and answers, and what it documents of its limits. */
export interface EmbeddingDialect {
  path: string;
  /** Tokens that an image is billed as at most, where the record does not say. */
  maxImageTokens: number;
  /** null where the API states no maximum. */
  maxTextsPerRequest: number | null;
  /** null where the API states no maximum. @param maxImageTokens what each of them may be billed as */
  maxImagesPerRequest(maxImageTokens: number): number | null;
  request(
    model: string,
    content: { images: string[] /** data URIs */ } | { texts: string[] },
    settings: EmbeddingsSettings,
  ): Record<string, unknown>;
  /**
   * In the order of what was sent; null where the answer is something else.
   * @param asked as many as were asked for
   */
  embeddings(answer: unknown, asked: number): number[][] | null;
  /** What the answer states; undefined where it states none. */
  inputTokens(answer: unknown): unknown;
}

/** Times what was asked for: a list that is somewhat too long is told from one that is no list of embeddings. */
const MOST_ROWS = 2;

const listAnswer = (asked: number) =>
  z.looseObject({
    data: listOf(z.looseObject({ index: z.int().optional(), embedding: vector }), MOST_ROWS * asked),
  });
const usageAnswer = z.looseObject({ usage: z.looseObject({ total_tokens: z.unknown() }) });
const cohereAnswer = (asked: number) =>
  z.looseObject({ embeddings: z.looseObject({ float: listOf(vector, MOST_ROWS * asked) }) });
const cohereUsage = z.looseObject({
  meta: z.looseObject({
    billed_units: z.looseObject({ input_tokens: z.number().nullish(), image_tokens: z.number().nullish() }),
  }),
});

/** OpenAI's list, whose items may come in any order. */
function listedEmbeddings(answer: unknown, asked: number): number[][] | null {
  const list = listAnswer(asked).safeParse(answer).data?.data;
  if (!list || list.length === 0) return null;
  const rows: number[][] = [];
  for (const [place, { index = place, embedding }] of list.entries()) {
    if (index < 0 || index >= list.length || rows[index]) return null;
    rows[index] = embedding;
  }
  return rows;
}

function cohereEmbeddings(answer: unknown, asked: number): number[][] | null {
  const rows = cohereAnswer(asked).safeParse(answer).data?.embeddings.float;
  return rows && rows.length > 0 ? rows : null;
}

function totalTokens(answer: unknown): unknown {
  return usageAnswer.safeParse(answer).data?.usage.total_tokens;
}

/** Cohere counts the tokens of images apart from those of texts. */
function cohereTokens(answer: unknown): number | undefined {
  const { input_tokens: texts, image_tokens: images } = cohereUsage.safeParse(answer).data?.meta.billed_units ?? {};
  if (typeof texts !== 'number' && typeof images !== 'number') return undefined;
  return (texts ?? 0) + (images ?? 0);
}

const inputTypeOf = (content: object, settings: EmbeddingsSettings) =>
  'images' in content ? settings.image_input_type : settings.text_input_type;

/** Cohere: texts, and inputs of any kind. */
const COHERE_INPUTS = 96;
/** Voyage: inputs of a request, and tokens of all of them together. */
const VOYAGE_INPUTS = 1000;
const VOYAGE_TOKENS = 320_000;

const DIALECTS: Record<EmbeddingsSettings['dialect'], EmbeddingDialect> = {
  infinity: {
    path: '/embeddings',
    // CLIP models have some hundreds of patches, models that read documents a few thousand.
    maxImageTokens: 4096,
    maxTextsPerRequest: null,
    maxImagesPerRequest: () => null,
    request: (model, content, { dimensions }) => ({
      model,
      input: 'images' in content ? content.images : content.texts,
      modality: 'images' in content ? 'image' : 'text',
      encoding_format: 'float',
      dimensions,
    }),
    embeddings: listedEmbeddings,
    inputTokens: totalTokens,
  },
  jina: {
    path: '/embeddings',
    // jina-clip-v2: 4,000 for each tile of 512 × 512 pixels; of four of them.
    maxImageTokens: 16_000,
    maxTextsPerRequest: null,
    maxImagesPerRequest: () => null,
    request: (model, content, settings) => ({
      model,
      input:
        'images' in content
          ? content.images.map((image) => ({ image: image.slice(image.indexOf(',') + 1) }))
          : content.texts.map((text) => ({ text })),
      embedding_type: 'float',
      dimensions: settings.dimensions,
      task: inputTypeOf(content, settings),
    }),
    embeddings: listedEmbeddings,
    inputTokens: totalTokens,
  },
  cohere: {
    path: '/embed',
    // embed-v4.0: about 1,610 for 512 × 512 pixels, of which no more than 2,458,624 are kept.
    maxImageTokens: 16_384,
    maxTextsPerRequest: COHERE_INPUTS,
    maxImagesPerRequest: () => COHERE_INPUTS,
    request: (model, content, settings) => ({
      model,
      // "images" takes one of them only.
      ...('images' in content
        ? { inputs: content.images.map((url) => ({ content: [{ type: 'image_url', image_url: { url } }] })) }
        : { texts: content.texts }),
      input_type: inputTypeOf(content, settings) ?? ('images' in content ? 'image' : 'classification'),
      embedding_types: ['float'],
      output_dimension: settings.dimensions,
    }),
    embeddings: cohereEmbeddings,
    inputTokens: cohereTokens,
  },
  voyage: {
    path: '/multimodalembeddings',
    // One for every 560 pixels, of which an image has at most 16 million.
    maxImageTokens: 28_600,
    maxTextsPerRequest: VOYAGE_INPUTS,
    maxImagesPerRequest: (maxImageTokens) =>
      Math.max(1, Math.min(VOYAGE_INPUTS, Math.floor(VOYAGE_TOKENS / Math.max(1, maxImageTokens)))),
    request: (model, content, settings) => ({
      model,
      inputs:
        'images' in content
          ? content.images.map((image) => ({ content: [{ type: 'image_base64', image_base64: image }] }))
          : content.texts.map((text) => ({ content: [{ type: 'text', text }] })),
      input_type: inputTypeOf(content, settings),
      output_dimension: settings.dimensions,
    }),
    embeddings: listedEmbeddings,
    inputTokens: totalTokens,
  },
};

export function dialectOf(name: EmbeddingsSettings['dialect']): EmbeddingDialect {
  return DIALECTS[name];
}
