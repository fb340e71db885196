import { z } from 'zod';
import type { QueryAmounts } from './provider.js';

/** Limits of an account that many calls share, as callers write them. */

const queryLimit = z.int().min(0).max(Number.MAX_SAFE_INTEGER).nullable();

/** null is no limit; what is left out stays as it is. */
export const queryLimitsSchema = z.strictObject({
  max_prompt_evaluations: queryLimit.optional(),
  max_image_queries: queryLimit.optional(),
  max_requests: queryLimit.optional(),
  max_cost_usd: z.number().min(0).max(1e9).nullable().optional(),
});

export type AmountLimits = { [Unit in keyof QueryAmounts]?: number | null };

/** The same in the ledger's units; a cost limit is rounded down to whole micro-dollars. */
export function toAmountLimits(limits: z.output<typeof queryLimitsSchema>): AmountLimits {
  const { max_prompt_evaluations, max_image_queries, max_requests, max_cost_usd } = limits;
  return {
    promptEvaluations: max_prompt_evaluations,
    imageQueries: max_image_queries,
    requests: max_requests,
    costMicroUsd: typeof max_cost_usd === 'number' ? toMicroUsd(max_cost_usd) : max_cost_usd,
  };
}

/** Dollars as whole micro-dollars, rounded down, but for what only binary fractions took away. */
export function toMicroUsd(usd: number): number {
  return Math.floor(usd * 1e6 + 1e-6);
}
