import { type AccountKind, LimitReachedError, type Shortage } from '../ledger/accounts.js';
import { PatienceExhaustedError } from '../providers/circuit.js';
import { ProviderCallError } from '../providers/provider-call-error.js';
import type { PauseReason } from './state-machine.js';

export interface Pause {
  reason: PauseReason;
  message: string;
  shortage?: Shortage;
}

const REASON_OF: Record<AccountKind, PauseReason> = {
  job: 'budget_exhausted',
  adapter: 'budget_exhausted',
  provider: 'provider_limit',
  provider_day: 'provider_daily_limit',
  provider_day_limits: 'provider_daily_limit',
  project: 'project_limit',
};

/** Why training waits for something outside the job, where that is what an error says; null for all other errors. */
export function toPause(error: unknown): Pause | null {
  if (error instanceof PatienceExhaustedError && error.answersProbes) {
    const message = `${error.message} It answers single queries, but not this job's calls. Check its limits and time-out, then POST /v1/fine_tuning/jobs/{id}/resume.`;
    return { reason: 'provider_refused', message };
  }
  if (error instanceof PatienceExhaustedError) {
    const message = `${error.message} The job goes on by itself once the provider answers again.`;
    return { reason: 'provider_unavailable', message };
  }
  if (error instanceof ProviderCallError) {
    const message = `${error.message} Mend that, then POST /v1/fine_tuning/jobs/{id}/resume.`;
    return { reason: 'provider_refused', message };
  }
  if (error instanceof LimitReachedError) {
    const { shortage } = error;
    return { reason: REASON_OF[shortage.kind], message: error.message, shortage };
  }
  return null;
}
