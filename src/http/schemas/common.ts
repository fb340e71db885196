import type { Readable } from 'node:stream';
import { z } from 'zod';
import { ERROR_TYPES } from '../../errors.js';
import type { Balance, Noted } from '../../ledger/accounts.js';
import type { QueryAmounts } from '../../providers/provider.js';
import { TRANSFORMS } from '../../views/transforms.js';

const errorSchema = z
  .object({
    error: z.object({
      message: z.string().describe('What is wrong and what to do about it.'),
      type: z.enum(ERROR_TYPES),
      code: z.string().describe('Stable; programs may branch on it.'),
      param: z.string().nullable().describe('The request field that is to blame.'),
    }),
  })
  .meta({ id: 'Error' });

/** The error answers that every route can give. */
export const errorResponses = { '4xx': errorSchema, '5xx': errorSchema };

/** @param what a repetition of the request gets */
export function repeatableHeaders(what: string) {
  const error = 'Send 1 to 255 characters, or leave the header out.';
  return z.looseObject({
    'idempotency-key': z.string().min(1, { error }).max(255, { error }).optional().describe(what),
  });
}

const MOST_PER_PAGE = 1000;

export const pageQuery = z.object({
  limit: z.coerce
    .number({ error: `Send a whole number from 1 to ${MOST_PER_PAGE}.` })
    .int()
    .min(1)
    .max(MOST_PER_PAGE)
    .default(20),
  after: z.string().max(200).optional().describe('Id of the last item of the page before.'),
});

/** An answer that is no JSON, by its media types. */
export function fileAnswer(description: string, ...mediaTypes: string[]) {
  // Bytes are sent as they are: no schema checks them.
  const schema = z.custom<Uint8Array | Readable>().meta({ type: 'string', format: 'binary' });
  return { description, content: Object.fromEntries(mediaTypes.map((type) => [type, { schema }])) };
}

/** One page of a list, in the shape of OpenAI's cursor pages. */
export function listOf<Item extends z.ZodType>(item: Item) {
  return z.object({
    object: z.literal('list'),
    data: z.array(item),
    has_more: z.boolean(),
    first_id: z.string().nullable(),
    last_id: z.string().nullable(),
  });
}

export function toList<Item extends { id: string }>(data: Item[], hasMore: boolean) {
  return {
    object: 'list' as const,
    data,
    has_more: hasMore,
    first_id: data[0]?.id ?? null,
    last_id: data.at(-1)?.id ?? null,
  };
}

export const unixSeconds = z.int().describe('Unix time in seconds.');

export function toUnixSeconds(date: Date): number {
  return Math.floor(date.getTime() / 1000);
}

export const usageSchema = z.object({
  prompt_evaluations: z.int(),
  image_queries: z.int(),
  requests: z.int(),
  cost_usd: z.number(),
});

export function toUsage(amounts: QueryAmounts): z.output<typeof usageSchema> {
  return {
    prompt_evaluations: amounts.promptEvaluations,
    image_queries: amounts.imageQueries,
    requests: amounts.requests,
    cost_usd: amounts.costMicroUsd / 1e6,
  };
}

/** What a prediction asks about an image, and what that costs. */
export const predictionCostSchema = z.object({ transforms: z.array(z.enum(TRANSFORMS)), usage: usageSchema });

const unitBalance = z.object({
  limit: z.number().nullable().describe('null: no limit.'),
  used: z.number(),
  reserved: z.number().describe('Sent, and not answered yet.'),
  remaining: z.number().nullable(),
});

/** What of a call, or of all calls, has no limit. */
export const notedSchema = z
  .object({
    input_tokens: z.int(),
    output_tokens: z.int(),
    text_embeddings: z.int(),
  })
  .describe('Tokens that the provider says it billed, and texts that it embedded; nothing limits them.');

export function toNoted({ inputTokens, outputTokens, textEmbeddings }: Noted): z.output<typeof notedSchema> {
  return { input_tokens: inputTokens, output_tokens: outputTokens, text_embeddings: textEmbeddings };
}

export const balanceSchema = z
  .object({
    prompt_evaluations: unitBalance,
    image_queries: unitBalance,
    requests: unitBalance,
    cost_usd: unitBalance,
    noted: notedSchema,
  })
  .meta({ id: 'Budget' });

export function toBalance(balance: Balance): z.output<typeof balanceSchema> {
  const { limit, used, reserved, remaining } = balance.costMicroUsd;
  const usd = (micro: number | null) => (micro === null ? null : micro / 1e6);
  return {
    prompt_evaluations: balance.promptEvaluations,
    image_queries: balance.imageQueries,
    requests: balance.requests,
    cost_usd: { limit: usd(limit), used: used / 1e6, reserved: reserved / 1e6, remaining: usd(remaining) },
    noted: toNoted(balance.noted),
  };
}
