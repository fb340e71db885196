import type { Job } from '../db/generated/client.js';
import { ConflictError } from '../errors.js';
import { BUDGET_PARAMETERS, type QueryLimits, showAmount, UNITS } from '../ledger/accounts.js';
import { addAmounts, multiplyAmounts, NOTHING } from '../providers/amounts.js';
import type { JobMethod } from './job-request.js';
import type { TrainingPlan } from './plan.js';

/** What people are told of a changed budget: events and refusals. */

export function budgetIsNow(limits: QueryLimits): string {
  const set = UNITS.filter((unit) => limits[unit] !== null);
  return `The budget is now ${set.map((unit) => `${BUDGET_PARAMETERS[unit]} ${showAmount(unit, limits[unit]!)}`).join(', ')}`;
}

/** @param paid generations that the budget pays for; a plan that is longer is not cut */
export function describePaid(paid: number, planned: number): string {
  return paid < planned
    ? `it pays for ${paid} of the ${planned} generations that are planned.`
    : `${planned} generations are planned.`;
}

/**
 * Of a job whose plan stays though a new job would be planned otherwise: with more shots or transforms where it had to do
 * with fewer than it was asked for, or with fewer where its budget pays for no view any more.
 * @param paid generations that the budget pays for
 */
export function whatStays(job: Pick<Job, 'method' | 'plan'>, paid: number): string {
  const { strategy, asked, transforms } = job.plan as unknown as TrainingPlan;
  if (strategy !== 'economy') return '';
  const { shots = null, prediction_queries: wanted = 1 } = (job.method as unknown as JobMethod).craft;
  const has = transforms?.length ?? 1;
  const hasFewer = (asked !== undefined && asked.shots !== shots) || has < wanted;
  if (!hasFewer && paid >= has) return '';
  return ` The job keeps the shots and transforms that it was planned with (${shots ?? 'all'} shots of each class, ${has} of ${wanted} transforms); only a new job is planned on the whole of this budget.`;
}

export function nothingToGoOnWith(id: string, planned: number, plan: TrainingPlan, kept: string): ConflictError {
  const whole = multiplyAmounts(plan.perGeneration, plan.transforms?.length ?? 1);
  const needed = planned === 0 ? addAmounts(plan.setup ?? NOTHING, whole) : whole;
  const each = UNITS.filter((unit) => needed[unit] > 0).map(
    (unit) => `${BUDGET_PARAMETERS[unit]} ${showAmount(unit, needed[unit])}`,
  );
  return new ConflictError({
    code: 'budget_pays_for_nothing_more',
    param: 'fine_tuning_job_id',
    message: `Job ${id} has trained the ${planned} generations that this budget pays for. To go on it needs this much beyond what is used, of each that is limited: ${each.join(', ')}. Raise the limits, without "extend": false.${kept}`,
  });
}

/** Of a job that ended with the untrained model, having asked nothing. */
export function nothingToBeginWith(id: string, { strategyReason }: TrainingPlan): ConflictError {
  return new ConflictError({
    code: 'budget_pays_for_nothing_more',
    param: 'fine_tuning_job_id',
    message: `Job ${id} has nothing to begin with on this budget. ${strategyReason} Raise the limits.`,
  });
}

export function nothingMoreToAsk(id: string, planned: number): ConflictError {
  return new ConflictError({
    code: 'plan_is_complete',
    param: 'fine_tuning_job_id',
    message: `Job ${id} has asked about all ${planned} views that it asks about, whatever the budget. Create a job with more images, or with more views where "views" allowed fewer than help.`,
  });
}
