import type { Provider as ProviderRow } from '../db/generated/client.js';
import type { ProviderCapabilities, ProviderLimits, ProviderPrices } from './provider.js';
import { type Protocol, type ProviderInput, type ProviderSettings, parseSettings } from './provider-record.js';

/** A provider as Postgres holds it: to and from the columns of its row. */

/** A registered provider without its credentials. */
export interface ProviderInfo {
  id: string;
  name: string;
  protocol: Protocol;
  baseUrl: string;
  remoteModel: string;
  hasCredentials: boolean;
  settings: ProviderSettings;
  capabilities: ProviderCapabilities;
  /** As registered; what a job uses also respects the provider's own maxima. */
  limits: ProviderLimits;
  prices: ProviderPrices;
  createdAt: Date;
  updatedAt: Date;
}

type LimitsInput = ProviderInput['limits'];

export function limitColumns(limits: LimitsInput): ProviderLimits;
export function limitColumns(limits: Partial<LimitsInput>): Partial<ProviderLimits>;
export function limitColumns(limits: Partial<LimitsInput>): Partial<ProviderLimits> {
  return {
    requestsPerSecond: limits.requests_per_second,
    tokensPerSecond: limits.tokens_per_second,
    concurrency: limits.concurrency,
    imagesPerRequest: limits.images_per_request,
    promptsPerRequest: limits.prompts_per_request,
    maxRequestBytes: limits.max_request_bytes,
    timeoutMs: limits.timeout_ms,
  };
}

type PriceColumns = Record<
  'pricePerRequestNanoUsd' | 'pricePerImageQueryNanoUsd' | 'pricePerInputTokenPicoUsd' | 'pricePerOutputTokenPicoUsd',
  bigint
>;
type Prices = ProviderInput['prices'];

export function priceColumns(prices: Prices): PriceColumns;
export function priceColumns(prices: Partial<Prices>): Partial<PriceColumns>;
export function priceColumns(prices: Partial<Prices>): Partial<PriceColumns> {
  const scaled = (usd: number | undefined, factor: number) =>
    usd === undefined ? undefined : BigInt(Math.round(usd * factor));
  return {
    pricePerRequestNanoUsd: scaled(prices.per_request_usd, 1e9),
    pricePerImageQueryNanoUsd: scaled(prices.per_image_query_usd, 1e9),
    // Of a million tokens in dollars is of one in micro-dollars.
    pricePerInputTokenPicoUsd: scaled(prices.per_million_input_tokens_usd, 1e6),
    pricePerOutputTokenPicoUsd: scaled(prices.per_million_output_tokens_usd, 1e6),
  };
}

export function toInfo(row: ProviderRow): ProviderInfo {
  return {
    id: row.id,
    name: row.name,
    protocol: row.protocol as Protocol,
    baseUrl: row.baseUrl,
    remoteModel: row.remoteModel,
    hasCredentials: row.credentials !== null,
    settings: parseSettings(row.protocol as Protocol, row.settings),
    capabilities: row.capabilities as unknown as ProviderCapabilities,
    limits: {
      requestsPerSecond: row.requestsPerSecond,
      tokensPerSecond: row.tokensPerSecond,
      concurrency: row.concurrency,
      imagesPerRequest: row.imagesPerRequest,
      promptsPerRequest: row.promptsPerRequest,
      maxRequestBytes: row.maxRequestBytes,
      timeoutMs: row.timeoutMs,
    },
    prices: {
      perRequestNanoUsd: row.pricePerRequestNanoUsd,
      perImageQueryNanoUsd: row.pricePerImageQueryNanoUsd,
      perInputTokenPicoUsd: row.pricePerInputTokenPicoUsd,
      perOutputTokenPicoUsd: row.pricePerOutputTokenPicoUsd,
    },
    createdAt: row.createdAt,
    updatedAt: row.updatedAt,
  };
}
