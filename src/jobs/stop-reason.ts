import { readsAnswers } from '../adapters/adapter-head.js';
import type { AdapterWeights } from '../craft/trainer-interface.js';
import { LimitReachedError } from '../ledger/accounts.js';
import { DeadlinePassedError } from '../ledger/reservation.js';
import type { TrainingPlan } from './plan.js';

/** Why a job may end before its plan with what it has. */
export const STOP_REASONS = ['budget_exhausted', 'deadline', 'plateau'] as const;
export type StopReason = (typeof STOP_REASONS)[number];

const STOPPED: Record<StopReason, string> = {
  budget_exhausted:
    ' The budget did not pay for a further generation; raise it with POST /v1/fine_tuning/jobs/{id}/budget to go on.',
  deadline: ' The deadline came before the end of the plan.',
  plateau: ' Further views no longer pay; what is left of the budget is not spent.',
};

/** What the job's last event says of its end; nothing where the budget pays for no more. */
export function describeEnd(
  stop: StopReason | null,
  { mostGenerations }: Pick<TrainingPlan, 'mostGenerations'>,
  generation: number,
): string {
  if (stop) return STOPPED[stop];
  if (mostGenerations === undefined || generation < mostGenerations) return '';
  return ' These are all the views that it asks about; what is left of the budget is not spent.';
}

/** What it says of an adapter that asks about less than was planned; nothing of one that asks about all of it. */
export function describeFewerTransforms(
  { transforms = [] }: Pick<TrainingPlan, 'transforms'>,
  { head }: Pick<AdapterWeights, 'head'>,
): string {
  if (!readsAnswers(head) || head.inputs.transforms >= transforms.length) return '';
  const asked = transforms.slice(0, head.inputs.transforms);
  return ` A prediction with it asks about ${asked.length} of the ${transforms.length} transforms that were planned: ${asked.join(', ')}.`;
}

/** @returns null for errors that do not end a job with what it has */
export function stopReasonOf(error: unknown): StopReason | null {
  if (error instanceof DeadlinePassedError) return 'deadline';
  return error instanceof LimitReachedError && error.shortage.kind === 'job' ? 'budget_exhausted' : null;
}
