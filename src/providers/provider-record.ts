import { z } from 'zod';
import { queryLimitsSchema } from './query-limits.js';
import { isReservedHeader } from './settings/common.js';
import { customHttpSettings } from './settings/custom-http.js';
import { embeddingsSettings } from './settings/embeddings.js';
import { huggingFaceSettings } from './settings/hugging-face.js';
import { openInferenceSettings } from './settings/open-inference.js';
import { openAiChatSettings } from './settings/openai-chat.js';

/** What a caller says of a provider when registering it. The HTTP API publishes these schemas. */

const headerText = z
  .string()
  .min(1)
  .max(4096)
  .regex(/^[\x21-\x7e]([\x20-\x7e]*[\x21-\x7e])?$/, 'Use printable ASCII characters, without blanks at either end.');

export const credentialsSchema = z
  .discriminatedUnion('type', [
    z.strictObject({ type: z.literal('bearer'), token: headerText }),
    z.strictObject({
      type: z.literal('header'),
      name: z
        .string()
        .regex(/^[A-Za-z0-9-]{1,64}$/)
        .refine((name) => !isReservedHeader(name), {
          error:
            'This header belongs to HTTP or to the protocol. Name the header that carries the key, such as x-api-key.',
        }),
      value: headerText,
    }),
    z.strictObject({
      type: z.literal('query'),
      name: z.string().regex(/^[A-Za-z0-9_.-]{1,64}$/),
      value: headerText,
    }),
  ])
  .describe('Stored encrypted, never returned.');

export type Credentials = z.output<typeof credentialsSchema>;

const MIB = 1024 * 1024;
const requestBytes = z
  .int()
  .min(MIB)
  .max(1024 * MIB)
  .describe('Largest body of a request. Calls carry fewer images where theirs are large.');

export const limitsSchema = z.strictObject({
  requests_per_second: z.number().positive().max(1e6).nullable().default(null),
  tokens_per_second: z
    .number()
    .positive()
    .max(1e9)
    .nullable()
    .default(null)
    .describe('Of providers that limit tokens, too; those of a request are counted from above.'),
  concurrency: z.int().min(1).max(256).default(4).describe('Requests in flight at once.'),
  images_per_request: z.int().min(1).max(65536).default(256),
  prompts_per_request: z.int().min(1).max(1000).default(64),
  max_request_bytes: requestBytes.default(32 * MIB),
  timeout_ms: z.int().min(100).max(600_000).default(60_000),
});

export const pricesSchema = z.strictObject({
  per_request_usd: z.number().min(0).max(1000).default(0),
  per_image_query_usd: z.number().min(0).max(1000).default(0),
  per_million_input_tokens_usd: z.number().min(0).max(1e6).default(0),
  per_million_output_tokens_usd: z.number().min(0).max(1e6).default(0),
});

const baseUrl = z
  .url({
    protocol: /^https?$/,
    error: ({ code }) =>
      code === 'invalid_format'
        ? 'Write a URL that begins with http:// or https://, such as https://models.example.com.'
        : undefined,
  })
  .max(2048)
  .meta({ pattern: '^[Hh][Tt][Tt][Pp][Ss]?:' })
  .superRefine((value, context) => {
    if (!URL.canParse(value)) return;
    const { username, password } = new URL(value);
    const refuse = (message: string) => context.addIssue({ code: 'custom', message, input: value });
    if (username !== '' || password !== '') {
      refuse('Leave user and password out of the URL. Put what the provider asks for into credentials.');
    } else if (/[?#]/.test(value)) {
      refuse('Leave out what follows ? or #. A key that belongs there goes into credentials.');
    }
  });

const providerBudgetSchema = z
  .strictObject({
    total: queryLimitsSchema.prefault({}),
    daily: queryLimitsSchema.prefault({}).describe('Per day in UTC.'),
  })
  .describe('What all jobs and predictions together may spend at this provider. What is left out has no limit.');

export const PROVIDER_NAME = /^[a-z0-9][a-z0-9._-]{0,63}$/;

const recordFields = {
  name: z
    .string()
    .regex(PROVIDER_NAME, 'Use 1 to 64 lower-case letters, digits, dots, dashes or underscores.')
    .describe('Jobs name the provider by it, as `model`.'),
  credentials: credentialsSchema.optional(),
  limits: limitsSchema.prefault({}),
  prices: pricesSchema.prefault({}),
  budget: providerBudgetSchema.prefault({}),
};

const remoteModel = z
  .string()
  .regex(/^[A-Za-z0-9._:/@+-]{1,200}$/, 'Use 1 to 200 letters, digits and . _ : / @ + -.')
  .describe("The model's name at the provider.");
/** It becomes a part of the path. */
const openInferenceModel = z
  .string()
  .regex(/^[A-Za-z0-9._-]{1,128}$/, 'Use 1 to 128 letters, digits, dots, dashes and underscores.')
  .describe("The model's name at the provider.");

/** What each protocol needs to know beyond how it is reached. */
const SETTINGS = {
  open_inference: openInferenceSettings,
  hugging_face: huggingFaceSettings,
  openai_chat: openAiChatSettings,
  embeddings: embeddingsSettings,
  custom_http: customHttpSettings,
} as const;

export type Protocol = keyof typeof SETTINGS;
export const PROTOCOLS = Object.keys(SETTINGS) as Protocol[];
export type SettingsOf<P extends Protocol> = z.output<(typeof SETTINGS)[P]>;
export type ProviderSettings = SettingsOf<Protocol>;

export const providerInputSchema = z
  .discriminatedUnion('protocol', [
    z.strictObject({
      ...recordFields,
      protocol: z.literal('open_inference'),
      base_url: baseUrl.describe('The part before /v2.'),
      remote_model: openInferenceModel,
      settings: openInferenceSettings.prefault({}),
    }),
    z.strictObject({
      ...recordFields,
      protocol: z.literal('hugging_face'),
      base_url: baseUrl.describe(
        'The whole address that images are posted to: a dedicated endpoint, or https://router.huggingface.co/hf-inference/models/{model}.',
      ),
      remote_model: remoteModel,
      settings: huggingFaceSettings.prefault({}),
    }),
    z.strictObject({
      ...recordFields,
      protocol: z.literal('openai_chat'),
      base_url: baseUrl.describe('The part before /chat/completions, such as https://api.openai.com/v1.'),
      remote_model: remoteModel,
      settings: openAiChatSettings.prefault({}),
    }),
    z.strictObject({
      ...recordFields,
      protocol: z.literal('embeddings'),
      base_url: baseUrl.describe('The part before /embeddings (or /embed), such as https://api.jina.ai/v1.'),
      remote_model: remoteModel,
      settings: embeddingsSettings.prefault({}),
    }),
    z.strictObject({
      ...recordFields,
      protocol: z.literal('custom_http'),
      base_url: baseUrl.describe('The part before settings.path.'),
      remote_model: remoteModel,
      settings: customHttpSettings,
    }),
  ])
  .meta({ id: 'NewProvider' });

export type ProviderInput = z.output<typeof providerInputSchema>;

/** @throws z.ZodError */
export function parseSettings(protocol: Protocol, settings: unknown): ProviderSettings {
  return SETTINGS[protocol].parse(settings);
}

/** @throws z.ZodError */
export function parseRemoteModel(protocol: Protocol, model: string): string {
  return (protocol === 'open_inference' ? openInferenceModel : remoteModel).parse(model);
}

export const providerPatchSchema = z.strictObject({
  base_url: baseUrl.optional(),
  remote_model: remoteModel.optional(),
  credentials: credentialsSchema.nullable().optional().describe('null removes them.'),
  limits: z
    .strictObject({
      requests_per_second: z.number().positive().max(1e6).nullable().optional(),
      tokens_per_second: z.number().positive().max(1e9).nullable().optional(),
      concurrency: z.int().min(1).max(256).optional(),
      images_per_request: z.int().min(1).max(65536).optional(),
      prompts_per_request: z.int().min(1).max(1000).optional(),
      max_request_bytes: requestBytes.optional(),
      timeout_ms: z.int().min(100).max(600_000).optional(),
    })
    .optional(),
  prices: z
    .strictObject({
      per_request_usd: z.number().min(0).max(1000).optional(),
      per_image_query_usd: z.number().min(0).max(1000).optional(),
      per_million_input_tokens_usd: z.number().min(0).max(1e6).optional(),
      per_million_output_tokens_usd: z.number().min(0).max(1e6).optional(),
    })
    .optional(),
  budget: z
    .strictObject({ total: queryLimitsSchema.optional(), daily: queryLimitsSchema.optional() })
    .optional()
    .describe('Changes the limits that are named; null removes one. Holds for running jobs, too.'),
  settings: z
    .record(z.string(), z.unknown())
    .optional()
    .describe("As the provider's protocol has them; they replace the present ones as a whole."),
});

export type ProviderPatch = z.output<typeof providerPatchSchema>;
