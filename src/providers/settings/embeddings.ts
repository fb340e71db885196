import { z } from 'zod';
import { commonSettings, httpPath, tokenSettings } from './common.js';

export const EMBEDDING_DIALECTS = ['infinity', 'jina', 'cohere', 'voyage'] as const;

export const embeddingsSettings = z.strictObject({
  ...commonSettings,
  ...tokenSettings,
  max_image_tokens: tokenSettings.max_image_tokens
    .optional()
    .describe(
      'As many tokens as an image is billed as, at most. Left out, by the dialect: infinity 4,096; jina 16,000 (jina-clip-v2: 4,000 for each 512 × 512 pixels); cohere 16,384 (embed-v4.0, an image of 2,458,624 pixels); voyage 28,600 (16 million pixels, 560 a token). Larger images are billed as more: set image_size, or this.',
    ),
  dialect: z
    .enum(EMBEDDING_DIALECTS)
    .default('infinity')
    .describe(
      'infinity: POST /embeddings with a modality. jina: POST /embeddings with {text} and {image} objects. cohere: POST /embed of v2. voyage: POST /multimodalembeddings.',
    ),
  path: httpPath.optional().describe("After base_url; left out: the dialect's own."),
  scale: z
    .number()
    .positive()
    .max(10_000)
    .default(100)
    .describe('Logits are scale · cosine. CLIP models learned it (100, or what their logit_scale says).'),
  template: z
    .string()
    .max(500)
    .regex(/\{\}/, 'Put {} where the class name goes.')
    .default('a photo of a {}.')
    .describe('The template of zero-shot answers; training learns another one.'),
  texts_per_request: z
    .int()
    .min(1)
    .max(10_000)
    .default(96)
    .describe('At most as many as the dialect takes: cohere 96, voyage 1,000.'),
  dimensions: z.int().min(2).max(65536).optional().describe('Asked of models that can shorten their embeddings.'),
  text_input_type: z.string().max(64).optional().describe('input_type (Cohere, Voyage) or task (Jina) of texts.'),
  image_input_type: z.string().max(64).optional().describe('The same of images.'),
  extra_body: z.record(z.string().max(64), z.unknown()).default({}).describe('Further fields of every request.'),
});

export type EmbeddingsSettings = z.output<typeof embeddingsSettings>;
