import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { budgetSchema, toBudget, toQueryLimits } from '../../../src/jobs/job-request.js';

const count = fc.option(fc.integer({ min: 1, max: Number.MAX_SAFE_INTEGER }));
const limits = fc.record({
  promptEvaluations: count,
  imageQueries: count,
  requests: count,
  // Less than a micro-dollar is a budget, of which the ledger has nothing.
  costMicroUsd: fc.option(fc.integer({ min: 0, max: 1e15 })),
});

describe('toBudget', () => {
  it('is the budget, as a request has it, that has those limits', () => {
    fc.assert(
      fc.property(limits, (of) => {
        const budget = toBudget(of);
        expect(toQueryLimits(budget)).toEqual(of);
        const limited = Object.values(of).some((limit) => limit !== null);
        expect(budgetSchema.safeParse(JSON.parse(JSON.stringify(budget))).success).toBe(limited);
      }),
    );
  });
});
