import type { LedgerAccount } from '../db/generated/client.js';
import { BudgetExceededError } from '../errors.js';
import type { QueryAmounts } from '../providers/provider.js';

/** What the ledger's accounts hold: limits, what was used of them, what is reserved. */

/** Limits of an account; null is no limit. */
export type QueryLimits = { [Unit in keyof QueryAmounts]: number | null };

export type AccountKind = 'job' | 'adapter' | 'provider' | 'provider_day' | 'provider_day_limits' | 'project';

/** The one project: every call of this deployment draws on its account. */
export const DEFAULT_PROJECT = 'proj-default';

export const NO_LIMITS: QueryLimits = {
  promptEvaluations: null,
  imageQueries: null,
  requests: null,
  costMicroUsd: null,
};

export const UNITS = ['promptEvaluations', 'imageQueries', 'requests', 'costMicroUsd'] as const;

/** Decisions are made by Postgres in 64 bits; these figures for people are exact up to 2^53. */
export interface UnitBalance {
  limit: number | null;
  used: number;
  reserved: number;
  /** null where there is no limit; negative where a limit was set below what was used */
  remaining: number | null;
}

/** What is only noted: it has no limits. */
export interface Noted {
  inputTokens: number;
  outputTokens: number;
  textEmbeddings: number;
}

export type Balance = { [Unit in keyof QueryAmounts]: UnitBalance } & { noted: Noted };

/** The parameter that sets each unit's limit. */
export const BUDGET_PARAMETERS = {
  promptEvaluations: 'max_prompt_evaluations',
  imageQueries: 'max_image_queries',
  requests: 'max_requests',
  costMicroUsd: 'max_cost_usd',
} as const satisfies Record<keyof QueryAmounts, string>;

const UNIT_NAMES: Record<keyof QueryAmounts, { one: string; many: string }> = {
  promptEvaluations: { one: 'prompt evaluation', many: 'prompt evaluations' },
  imageQueries: { one: 'image query', many: 'image queries' },
  requests: { one: 'request', many: 'requests' },
  costMicroUsd: { one: 'dollar', many: 'dollars' },
};

/** In the unit of its parameter: dollars, not micro-dollars. */
export function showAmount(unit: keyof QueryAmounts, amount: number): string {
  return `${unit === 'costMicroUsd' ? amount / 1e6 : amount}`;
}

/** An account that does not cover a call. */
export type Shortage = {
  accountId: string;
  kind: AccountKind;
  unit: keyof QueryAmounts;
  limit: number;
  remaining: number;
  needed: number;
};

/** A limit would be passed, so that nothing was sent. */
export class LimitReachedError extends BudgetExceededError {
  constructor(readonly shortage: Shortage) {
    const { kind, unit, limit, remaining, needed } = shortage;
    const parameter = BUDGET_PARAMETERS[unit];
    const shown = (amount: number) => showAmount(unit, amount);
    super({
      code: CODES[kind],
      param: parameter,
      message:
        `The next step needs ${shown(needed)} ${UNIT_NAMES[unit][shown(needed) === '1' ? 'one' : 'many']}, ` +
        `but only ${shown(Math.max(0, remaining))} of ${shown(limit)} remain` +
        `${SCOPES[kind]}. Nothing was sent. ${REMEDIES[kind].replace('%', parameter)}`,
    });
  }
}

const CODES: Record<AccountKind, string> = {
  job: 'budget_exhausted',
  adapter: 'budget_exhausted',
  provider: 'provider_limit_reached',
  provider_day: 'provider_daily_limit_reached',
  provider_day_limits: 'provider_daily_limit_reached',
  project: 'project_limit_reached',
};

const SCOPES: Record<AccountKind, string> = {
  job: '',
  adapter: '',
  provider: ' at this provider',
  provider_day: ' at this provider today (UTC)',
  provider_day_limits: ' at this provider today (UTC)',
  project: ' in this project',
};

const RAISE_PROVIDER = 'Raise % of the provider with PATCH /v1/providers/{id}';
const REMEDIES: Record<AccountKind, string> = {
  job: 'Raise % with POST /v1/fine_tuning/jobs/{id}/budget.',
  adapter: 'Raise %.',
  provider: `${RAISE_PROVIDER} (budget.total).`,
  provider_day: `${RAISE_PROVIDER} (budget.daily), or wait for tomorrow.`,
  provider_day_limits: `${RAISE_PROVIDER} (budget.daily).`,
  project: 'Raise % of the project with PATCH /v1/projects/{id}.',
};

/** The first account limit that does not cover the amounts; null when all do. */
export function shortfall(accountId: string, kind: AccountKind, amounts: QueryAmounts, balance: Balance) {
  for (const unit of UNITS) {
    const { limit, remaining } = balance[unit];
    const needed = amounts[unit];
    if (limit === null || remaining === null || needed === 0 || needed <= remaining) continue;
    return new LimitReachedError({ accountId, kind, unit, limit, remaining, needed });
  }
  return null;
}

/** As columns of an account; a limit that is left out stays as it is, null lifts it. */
export function limitColumns(limits: Partial<QueryLimits>) {
  return {
    promptEvaluationsLimit: limits.promptEvaluations,
    imageQueriesLimit: limits.imageQueries,
    requestsLimit: limits.requests,
    costMicroUsdLimit: limits.costMicroUsd,
  };
}

/** The columns that a balance is read from; the row has others beside them. */
export const BALANCE_COLUMNS = {
  promptEvaluationsLimit: true,
  promptEvaluationsUsed: true,
  promptEvaluationsReserved: true,
  imageQueriesLimit: true,
  imageQueriesUsed: true,
  imageQueriesReserved: true,
  requestsLimit: true,
  requestsUsed: true,
  requestsReserved: true,
  costMicroUsdLimit: true,
  costMicroUsdUsed: true,
  costMicroUsdReserved: true,
  inputTokens: true,
  outputTokens: true,
  textEmbeddings: true,
} as const satisfies Partial<Record<keyof LedgerAccount, true>>;

export type BalanceRow = Pick<LedgerAccount, keyof typeof BALANCE_COLUMNS>;

/** Amounts as numbers: they stay far below 2⁵³, cost in micro-dollars included. */
export function toBalance(row: BalanceRow): Balance {
  const unit = (limit: bigint | null, used: bigint, reserved: bigint): UnitBalance => ({
    limit: limit === null ? null : Number(limit),
    used: Number(used),
    reserved: Number(reserved),
    remaining: limit === null ? null : Number(limit - used - reserved),
  });
  return {
    promptEvaluations: unit(row.promptEvaluationsLimit, row.promptEvaluationsUsed, row.promptEvaluationsReserved),
    imageQueries: unit(row.imageQueriesLimit, row.imageQueriesUsed, row.imageQueriesReserved),
    requests: unit(row.requestsLimit, row.requestsUsed, row.requestsReserved),
    costMicroUsd: unit(row.costMicroUsdLimit, row.costMicroUsdUsed, row.costMicroUsdReserved),
    noted: {
      inputTokens: Number(row.inputTokens),
      outputTokens: Number(row.outputTokens),
      textEmbeddings: Number(row.textEmbeddings),
    },
  };
}

/** What of a balance is used, without what is reserved. */
export function usedOf(balance: Balance): QueryAmounts {
  const { promptEvaluations, imageQueries, requests, costMicroUsd } = balance;
  return {
    promptEvaluations: promptEvaluations.used,
    imageQueries: imageQueries.used,
    requests: requests.used,
    costMicroUsd: costMicroUsd.used,
  };
}
