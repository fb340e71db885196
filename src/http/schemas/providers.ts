import { z } from 'zod';
import type { ProviderTest } from '../../adapters/provider-test.js';
import { type Balance, usedOf } from '../../ledger/accounts.js';
import { BILLING_UNITS, PROMPT_SPACES, RETURNED } from '../../providers/provider.js';
import { limitsSchema, PROTOCOLS, pricesSchema } from '../../providers/provider-record.js';
import type { ProviderInfo } from '../../providers/provider-row.js';
import { balanceSchema, listOf, toBalance, toUnixSeconds, toUsage, unixSeconds, usageSchema } from './common.js';

export const providerSchema = z
  .object({
    id: z.string(),
    object: z.literal('provider'),
    name: z.string(),
    protocol: z.enum(PROTOCOLS),
    base_url: z.string(),
    remote_model: z.string(),
    has_credentials: z.boolean(),
    limits: z.object(limitsSchema.shape),
    prices: z.object(pricesSchema.shape),
    settings: z.record(z.string(), z.unknown()).describe('As the protocol has them.'),
    capabilities: z.object({
      prompt_space: z.enum(PROMPT_SPACES).describe('What jobs use unless they say otherwise.'),
      prompt_spaces: z.array(z.enum(PROMPT_SPACES)),
      context_tokens: z.int().nullable(),
      context_width: z.int().nullable(),
      default_template: z.string(),
      max_images_per_request: z.int().nullable(),
      max_prompts_per_request: z.int().nullable(),
      max_classes_per_request: z.int().nullable(),
      max_texts_per_request: z.int().nullable().describe('Prompts × classes.'),
      max_logits_per_request: z.int().nullable().describe('Prompts × images × classes.'),
      max_request_bytes: z.int().nullable(),
      returns: z.enum(RETURNED).describe('top_log_probabilities: of the likeliest.'),
      billing_unit: z
        .enum(BILLING_UNITS)
        .nullable()
        .describe('image_query, request or token, as far as the protocol tells.'),
      image_size: z
        .object({ width: z.int(), height: z.int() })
        .nullable()
        .describe('Images are scaled to this before they are sent.'),
      idempotency: z
        .object({ header: z.string(), window_seconds: z.int() })
        .nullable()
        .describe('The header that makes a repeated request the same purchase, and for how long.'),
      image_references: z.boolean().describe('Whether an image that was sent before goes over the wire as its hash.'),
    }),
    usage: usageSchema.describe('Used at this provider by all jobs, predictions and zero-shot calls.'),
    budget: z
      .object({ total: balanceSchema, daily: balanceSchema.describe('Of today in UTC.') })
      .describe('What all of them may spend here together.'),
    created_at: unixSeconds,
    updated_at: unixSeconds,
  })
  .meta({ id: 'Provider' });

export const providerListSchema = listOf(providerSchema);

export const deletedProviderSchema = z.object({
  id: z.string(),
  object: z.literal('provider'),
  deleted: z.literal(true),
});

export const providerTestBodySchema = z.strictObject({
  image: z.string().min(1).optional().describe('A data URI. Left out: a red disc on white.'),
  labels: z
    .array(z.string().trim().min(1).max(200))
    .min(2)
    .max(4096)
    .default(['red circle', 'blue square'])
    .describe('What to choose from.'),
  template: z
    .string()
    .max(500)
    .refine((text) => text.split('{}').length === 2, { error: 'Put {} exactly once, for the class name.' })
    .optional()
    .describe("Text with {} once, for the class name; the provider's own prompt where left out."),
});

export const providerTestSchema = z
  .object({
    object: z.literal('provider.test'),
    provider_id: z.string(),
    ok: z.boolean(),
    protocol: z.enum(PROTOCOLS),
    answers: z
      .array(
        z.object({ status: z.int(), latency_ms: z.int(), body: z.string().describe('Its first 2,000 characters.') }),
      )
      .describe('What came back, request by request.'),
    understood: z
      .object({
        returns: z.enum(RETURNED),
        logits: z.array(z.number()).describe('In the order of the labels.'),
        predictions: z.array(z.object({ label: z.string(), score: z.number() })),
        usage: usageSchema,
      })
      .nullable(),
    error: z
      .object({
        code: z.string(),
        message: z.string(),
        billing: z.enum(['unbilled', 'unknown', 'billed']).describe('unknown: it stays counted.'),
      })
      .nullable(),
  })
  .meta({ id: 'ProviderTest' });

export function toProviderTest(
  { id, protocol, capabilities }: ProviderInfo,
  { answers, understood, error }: ProviderTest,
): z.output<typeof providerTestSchema> {
  return {
    object: 'provider.test',
    provider_id: id,
    ok: error === null,
    protocol,
    answers: answers.map(({ milliseconds, ...answer }) => ({ ...answer, latency_ms: milliseconds })),
    understood: understood && {
      returns: capabilities.returns,
      logits: understood.logits,
      predictions: understood.predictions,
      usage: toUsage(understood.usage),
    },
    error,
  };
}

export function toProvider(
  info: ProviderInfo,
  balances: { total: Balance; today: Balance },
): z.output<typeof providerSchema> {
  const { capabilities, limits, prices } = info;
  return {
    id: info.id,
    object: 'provider',
    name: info.name,
    protocol: info.protocol,
    base_url: info.baseUrl,
    remote_model: info.remoteModel,
    has_credentials: info.hasCredentials,
    limits: {
      requests_per_second: limits.requestsPerSecond,
      tokens_per_second: limits.tokensPerSecond,
      concurrency: limits.concurrency,
      images_per_request: limits.imagesPerRequest,
      prompts_per_request: limits.promptsPerRequest,
      max_request_bytes: limits.maxRequestBytes,
      timeout_ms: limits.timeoutMs,
    },
    prices: {
      per_request_usd: Number(prices.perRequestNanoUsd) / 1e9,
      per_image_query_usd: Number(prices.perImageQueryNanoUsd) / 1e9,
      per_million_input_tokens_usd: Number(prices.perInputTokenPicoUsd) / 1e6,
      per_million_output_tokens_usd: Number(prices.perOutputTokenPicoUsd) / 1e6,
    },
    settings: info.settings as Record<string, unknown>,
    capabilities: {
      prompt_space: capabilities.promptSpace,
      prompt_spaces: capabilities.promptSpaces ?? [capabilities.promptSpace],
      context_tokens: capabilities.contextTokens,
      context_width: capabilities.contextWidth,
      default_template: capabilities.defaultTemplate,
      max_images_per_request: capabilities.maxImagesPerRequest,
      max_prompts_per_request: capabilities.maxPromptsPerRequest,
      // Absent in the record of a provider that was registered before it was asked for these.
      max_classes_per_request: capabilities.maxClassesPerRequest ?? null,
      max_texts_per_request: capabilities.maxTextsPerRequest ?? null,
      max_logits_per_request: capabilities.maxLogitsPerRequest ?? null,
      max_request_bytes: capabilities.maxRequestBytes ?? null,
      returns: capabilities.returns,
      billing_unit: capabilities.billingUnit ?? null,
      image_size: capabilities.imageSize ?? null,
      idempotency: capabilities.idempotency
        ? { header: capabilities.idempotency.header, window_seconds: capabilities.idempotency.windowSeconds }
        : null,
      image_references: capabilities.imageReferences,
    },
    usage: toUsage(usedOf(balances.total)),
    budget: { total: toBalance(balances.total), daily: toBalance(balances.today) },
    created_at: toUnixSeconds(info.createdAt),
    updated_at: toUnixSeconds(info.updatedAt),
  };
}
