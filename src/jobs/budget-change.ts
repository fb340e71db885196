import { z } from 'zod';
import type { QueryLimits } from '../ledger/accounts.js';
import { budgetLimits, deadlineSchema, toQueryLimits } from './job-request.js';

/** What a caller says when changing the budget of a job that exists. The HTTP API publishes this schema. */
export const budgetChangeSchema = z
  .strictObject({
    ...budgetLimits,
    extend: z
      .boolean()
      .default(true)
      .describe(
        'true: plan as many generations as the new budget pays for; while nothing has been asked, plan the job anew. false: keep the plan, so that the budget only makes up for calls that were lost.',
      ),
    deadline: deadlineSchema
      .nullable()
      .optional()
      .describe('Unix time in seconds. null removes the deadline; left out, it stays.'),
  })
  .refine(({ extend: _, ...change }) => Object.values(change).some((value) => value !== undefined), {
    error: 'Set at least one of max_prompt_evaluations, max_image_queries, max_requests, max_cost_usd, deadline.',
  })
  .describe('Limits that are left out stay as they are.');

export interface BudgetChange {
  /** Only those that change. */
  limits: Partial<QueryLimits>;
  extend: boolean;
  deadline?: Date | null;
}

export function toBudgetChange(body: z.output<typeof budgetChangeSchema>): BudgetChange {
  const { extend, deadline, ...limits } = body;
  const named = Object.entries(toQueryLimits(limits)).filter(([, limit]) => limit !== null);
  return {
    limits: Object.fromEntries(named) as Partial<QueryLimits>,
    extend,
    deadline: deadline === undefined || deadline === null ? deadline : new Date(deadline * 1000),
  };
}
