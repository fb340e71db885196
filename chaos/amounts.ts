/** What calls cost, in every unit that the ledger counts. */
export const UNITS = ['prompt_evaluations', 'image_queries', 'requests', 'cost_micro_usd'] as const;
export type Unit = (typeof UNITS)[number];
export type Amounts = Record<Unit, number>;

/** Whole micro-dollars, so that the ledger's rounding up of each call changes nothing. */
const PRICES = { request: 100, imageQuery: 2 };
export const PRICES_USD = { per_request_usd: PRICES.request / 1e6, per_image_query_usd: PRICES.imageQuery / 1e6 };

export const NOTHING: Amounts = { prompt_evaluations: 0, image_queries: 0, requests: 0, cost_micro_usd: 0 };

/** The provider counts no money; its prices say what it would bill. */
export function withCost(counts: Omit<Amounts, 'cost_micro_usd'>): Amounts {
  const { prompt_evaluations, image_queries, requests } = counts;
  const cost = requests * PRICES.request + image_queries * PRICES.imageQuery;
  return { prompt_evaluations, image_queries, requests, cost_micro_usd: cost };
}

export function add(...list: Amounts[]): Amounts {
  return perUnit((unit) => list.reduce((sum, amounts) => sum + amounts[unit], 0));
}

export function subtract(from: Amounts, what: Amounts): Amounts {
  return perUnit((unit) => from[unit] - what[unit]);
}

export function times(amounts: Amounts, factor: number): Amounts {
  return perUnit((unit) => amounts[unit] * factor);
}

/** The first unit in which the one is more than the other. */
export function exceeds(amounts: Amounts, limit: Amounts): Unit | undefined {
  return UNITS.find((unit) => amounts[unit] > limit[unit]);
}

function perUnit(amount: (unit: Unit) => number): Amounts {
  return Object.fromEntries(UNITS.map((unit) => [unit, amount(unit)])) as Amounts;
}
