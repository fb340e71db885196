import { z } from 'zod';
import { type Balance, usedOf } from '../../ledger/accounts.js';
import { limitsSchema, openInferenceSettingsSchema, pricesSchema } from '../../providers/provider-record.js';
import type { ProviderInfo } from '../../providers/provider-store.js';
import { balanceSchema, toBalance, toUnixSeconds, toUsage, unixSeconds, usageSchema } from './common.js';

export const providerSchema = z
  .object({
    id: z.string(),
    object: z.literal('provider'),
    name: z.string(),
    protocol: z.string(),
    base_url: z.string(),
    remote_model: z.string(),
    has_credentials: z.boolean(),
    limits: z.object(limitsSchema.shape),
    prices: z.object(pricesSchema.shape),
    settings: openInferenceSettingsSchema,
    capabilities: z.object({
      prompt_space: z.string(),
      context_tokens: z.int().nullable(),
      context_width: z.int().nullable(),
      default_template: z.string(),
      max_images_per_request: z.int().nullable(),
      max_prompts_per_request: z.int().nullable(),
      max_classes_per_request: z.int().nullable(),
      max_texts_per_request: z.int().nullable().describe('Prompts × classes.'),
      max_logits_per_request: z.int().nullable().describe('Prompts × images × classes.'),
      max_request_bytes: z.int().nullable(),
      returns: z.string(),
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

export const providerListSchema = z.object({
  object: z.literal('list'),
  data: z.array(providerSchema),
  has_more: z.literal(false),
});

export const deletedProviderSchema = z.object({
  id: z.string(),
  object: z.literal('provider'),
  deleted: z.literal(true),
});

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
      concurrency: limits.concurrency,
      images_per_request: limits.imagesPerRequest,
      prompts_per_request: limits.promptsPerRequest,
      max_request_bytes: limits.maxRequestBytes,
      timeout_ms: limits.timeoutMs,
    },
    prices: {
      per_request_usd: Number(prices.perRequestNanoUsd) / 1e9,
      per_image_query_usd: Number(prices.perImageQueryNanoUsd) / 1e9,
    },
    settings: info.settings,
    capabilities: {
      prompt_space: capabilities.promptSpace,
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
