import { z } from 'zod';
import { imageFromBase64, imageFromDataUri } from '../base64-image.js';
import type { EmbeddingInput, EmojiClip } from '../emoji-clip.js';
import type { JsonQuestion } from '../exchange.js';
import { modelText, parseInput } from '../parse-input.js';
import { requireModel } from '../require-model.js';
import { TOKENS_PER_IMAGE, textTokens } from '../token-count.js';
import { dimensionsOf, embeddingQuestion, textsOf, toBase64 } from './embedding-question.js';

const MAX_INPUTS = 2048;

const item = z.union(
  [z.string(), z.strictObject({ text: modelText }), z.strictObject({ image: z.string() })],
  'must be a text, {"text": text} or {"image": base64 or data URI}',
);

const schemaFor = (model: EmojiClip) =>
  z
    .object({
      model: z.string(),
      input: z.preprocess(
        (value) => (Array.isArray(value) || value === undefined ? value : [value]),
        z.array(item).min(1).max(MAX_INPUTS),
      ),
      /** Infinity's: what strings in `input` are, texts or data URIs of images. */
      modality: z.enum(['text', 'image']).default('text'),
      encoding_format: z.enum(['float', 'base64']).nullish(),
      dimensions: dimensionsOf(model),
    })
    .superRefine(({ input, modality }, context) => {
      for (const [i, entry] of input.entries()) {
        const problem = modality === 'text' && typeof entry === 'string' && modelText.safeParse(entry).error;
        if (problem) context.addIssue({ code: 'custom', path: ['input', i], message: problem.issues[0].message });
      }
    });

/** Reads `POST /v1/embeddings` as OpenAI, Infinity (`modality`) and Jina (`{"text"}`, `{"image"}`) have it. */
export function openAiEmbeddings(model: EmojiClip, body: unknown): JsonQuestion {
  const request = parseInput(schemaFor(model), body);
  requireModel(model, request.model);
  const inputs = request.input.map((entry, i) => readItem(entry, request.modality, `input.${i}`));
  const texts = textsOf(inputs);
  const tokens = textTokens(model, texts) + TOKENS_PER_IMAGE * (inputs.length - texts.length);
  return embeddingQuestion(model, inputs, (vectors) => ({
    object: 'list',
    model: request.model,
    data: vectors.map((vector, index) => ({
      object: 'embedding',
      index,
      embedding: request.encoding_format === 'base64' && vector !== undefined ? toBase64(vector) : vector,
    })),
    usage: { prompt_tokens: tokens, total_tokens: tokens },
  }));
}

function readItem(entry: z.infer<typeof item>, modality: 'text' | 'image', field: string): EmbeddingInput {
  if (typeof entry !== 'string') {
    return 'text' in entry ? entry : { image: imageFromBase64(entry.image, `${field}.image`) };
  }
  if (modality === 'image') return { image: imageFromDataUri(entry, field) };
  return { text: entry };
}
