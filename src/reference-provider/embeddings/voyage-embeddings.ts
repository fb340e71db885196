import { z } from 'zod';
import { imageFromDataUri } from '../base64-image.js';
import type { EmbeddingInput, EmojiClip } from '../emoji-clip.js';
import type { JsonQuestion } from '../exchange.js';
import { modelText, parseInput } from '../parse-input.js';
import { requireModel } from '../require-model.js';
import { textTokens } from '../token-count.js';
import { dimensionsOf, embeddingQuestion, onlyPart, textsOf, toBase64 } from './embedding-question.js';

const MAX_INPUTS = 1000;
const PIXELS_PER_TOKEN = 560;

const part = z.discriminatedUnion(
  'type',
  [
    z.object({ type: z.literal('text'), text: modelText }),
    z.object({ type: z.literal('image_base64'), image_base64: z.string() }),
  ],
  'must be a part of type text or image_base64; nothing is fetched from URLs',
);

const schemaFor = (model: EmojiClip) =>
  z.object({
    model: z.string(),
    inputs: z
      .array(z.object({ content: z.array(part) }))
      .min(1)
      .max(MAX_INPUTS),
    // The model has one kind of embedding, whatever it is for.
    input_type: z.enum(['query', 'document']).nullish(),
    output_encoding: z.literal('base64').nullish(),
    output_dimension: dimensionsOf(model),
  });

/** Reads Voyage's `POST /v1/multimodalembeddings`. */
export function voyageEmbeddings(model: EmojiClip, body: unknown): JsonQuestion {
  const request = parseInput(schemaFor(model), body);
  requireModel(model, request.model);
  const inputs = request.inputs.map(({ content }, i) => readContent(content, `inputs.${i}.content`));
  return embeddingQuestion(model, inputs, (vectors) => ({
    object: 'list',
    data: vectors.map((vector, index) => ({
      object: 'embedding',
      embedding: request.output_encoding === 'base64' && vector !== undefined ? toBase64(vector) : vector,
      index,
    })),
    model: request.model,
    usage: usageOf(model, inputs),
  }));
}

function readContent(content: z.infer<typeof part>[], field: string): EmbeddingInput {
  const only = onlyPart(content, field);
  if (only.type === 'text') return { text: only.text };
  return { image: imageFromDataUri(only.image_base64, `${field}.0.image_base64`) };
}

/** Images count the pixels that the model sees of them. */
function usageOf(model: EmojiClip, inputs: EmbeddingInput[]) {
  const texts = textsOf(inputs);
  const tokens = textTokens(model, texts);
  const pixels = (inputs.length - texts.length) * model.config.image.size ** 2;
  return { text_tokens: tokens, image_pixels: pixels, total_tokens: tokens + Math.ceil(pixels / PIXELS_PER_TOKEN) };
}
