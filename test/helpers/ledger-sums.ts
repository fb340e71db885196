import type { EntryState } from '../../src/ledger/entries.js';
import type { StateTotals } from '../../src/ledger/state-totals.js';
import { query } from './postgres.js';

const STATES: EntryState[] = ['reserved', 'settled', 'released', 'unknown'];

/** What an account's totals by state have to be: added up over every entry that draws on it. */
export async function sumsOfEntries(connectionString: string, accountId: string): Promise<StateTotals> {
  const rows = await query<Record<'n' | 'p' | 'i' | 'r' | 'c', string> & { state: EntryState }>(
    connectionString,
    `SELECT state, count(*) AS n, sum(prompt_evaluations) AS p,
       sum(CASE WHEN state = 'settled' THEN coalesce(billed_image_queries, image_queries) ELSE image_queries END) AS i,
       sum(CASE WHEN state = 'settled' THEN coalesce(billed_requests, requests) ELSE requests END) AS r,
       sum(CASE WHEN state = 'settled' THEN coalesce(billed_cost_micro_usd, cost_micro_usd) ELSE cost_micro_usd END) AS c
     FROM ledger_reservations WHERE $1 = ANY (accounts) GROUP BY state`,
    [accountId],
  );
  const of = (state: EntryState) => {
    const row = rows.find((candidate) => candidate.state === state);
    return {
      entries: Number(row?.n ?? 0),
      promptEvaluations: Number(row?.p ?? 0),
      imageQueries: Number(row?.i ?? 0),
      requests: Number(row?.r ?? 0),
      costMicroUsd: Number(row?.c ?? 0),
    };
  };
  return Object.fromEntries(STATES.map((state) => [state, of(state)])) as StateTotals;
}
