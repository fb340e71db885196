import { randomUUID } from 'node:crypto';
import { z } from 'zod';
import { InvalidRequestError } from '../../errors.js';
import { imageFromDataUri } from '../base64-image.js';
import type { EmbeddingInput, EmojiClip } from '../emoji-clip.js';
import type { JsonQuestion } from '../exchange.js';
import { modelText, parseInput } from '../parse-input.js';
import { requireModel } from '../require-model.js';
import { TOKENS_PER_IMAGE, textTokens } from '../token-count.js';
import { dimensionsOf, embeddingQuestion, onlyPart, textsOf, toBase64, type Vectors } from './embedding-question.js';

const MAX_INPUTS = 96;
const MAX_IMAGES = 1;

const part = z.discriminatedUnion('type', [
  z.object({ type: z.literal('text'), text: modelText }),
  z.object({ type: z.literal('image_url'), image_url: z.object({ url: z.string() }) }),
]);

const schemaFor = (model: EmojiClip) =>
  z.object({
    model: z.string(),
    // The model has one kind of embedding, whatever it is for.
    input_type: z.enum(['search_document', 'search_query', 'classification', 'clustering', 'image']),
    texts: z.array(modelText).min(1).max(MAX_INPUTS).optional(),
    images: z.array(z.string()).min(1).max(MAX_IMAGES, 'one image is possible; send several in "inputs"').optional(),
    inputs: z
      .array(z.object({ content: z.array(part) }))
      .min(1)
      .max(MAX_INPUTS)
      .optional(),
    embedding_types: z
      .array(z.enum(['float', 'base64']))
      .min(1)
      .default(['float']),
    output_dimension: dimensionsOf(model),
  });

type Request = z.infer<ReturnType<typeof schemaFor>>;

/** Reads Cohere's `POST /v2/embed`. */
export function cohereEmbed(model: EmojiClip, body: unknown): JsonQuestion {
  const request = parseInput(schemaFor(model), body);
  requireModel(model, request.model);
  const inputs = readInputs(request);
  const texts = textsOf(inputs);
  const images = inputs.length - texts.length;
  return embeddingQuestion(model, inputs, (vectors) => ({
    id: randomUUID(),
    response_type: 'embeddings_by_type',
    embeddings: byType(vectors, request.embedding_types),
    texts: request.texts ?? [],
    meta: {
      api_version: { version: '2' },
      billed_units: {
        input_tokens: textTokens(model, texts),
        image_tokens: TOKENS_PER_IMAGE * images,
        images,
      },
    },
  }));
}

function readInputs({ texts, images, inputs }: Request): EmbeddingInput[] {
  if ([texts, images, inputs].filter((given) => given !== undefined).length !== 1) {
    throw new InvalidRequestError({
      code: 'invalid_input',
      message: 'Give exactly one of "texts", "images" and "inputs".',
      param: 'inputs',
    });
  }
  if (texts !== undefined) return texts.map((text) => ({ text }));
  if (images !== undefined) return images.map((uri, i) => ({ image: imageFromDataUri(uri, `images.${i}`) }));
  return (inputs ?? []).map(({ content }, i) => {
    const only = onlyPart(content, `inputs.${i}.content`);
    if (only.type === 'text') return { text: only.text };
    return { image: imageFromDataUri(only.image_url.url, `inputs.${i}.content.0.image_url.url`) };
  });
}

function byType(vectors: Vectors, types: Request['embedding_types']) {
  return Object.fromEntries(
    types.map((type) => [type, type === 'float' ? vectors : vectors.map((vector) => vector && toBase64(vector))]),
  );
}
