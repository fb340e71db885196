import type { Database } from '../db/client.js';
import type { QueryAmounts } from '../providers/provider.js';
import type { EntryState } from './entries.js';

/** What the entries of each state count for; their sums are the account's used (settled, unknown) and reserved. */
export type StateTotals = Record<EntryState, QueryAmounts & { entries: number }>;

/**
 * Totals of the entries that draw on an account. The statements that reserve and close keep them on its row, so that this
 * reads one row however many entries there are.
 * @throws Prisma's P2025 where there is no such account
 */
export async function readStateTotals(database: Database, accountId: string): Promise<StateTotals> {
  const row = await database.ledgerAccount.findUniqueOrThrow({ where: { id: accountId } });
  const of = (state: 'Reserved' | 'Released' | 'Unknown') => ({
    entries: Number(row[`entries${state}`]),
    promptEvaluations: Number(row[`promptEvaluations${state}`]),
    imageQueries: Number(row[`imageQueries${state}`]),
    requests: Number(row[`requests${state}`]),
    costMicroUsd: Number(row[`costMicroUsd${state}`]),
  });
  return {
    reserved: of('Reserved'),
    // What is used is settled or unknown.
    settled: {
      entries: Number(row.entriesSettled),
      promptEvaluations: Number(row.promptEvaluationsUsed - row.promptEvaluationsUnknown),
      imageQueries: Number(row.imageQueriesUsed - row.imageQueriesUnknown),
      requests: Number(row.requestsUsed - row.requestsUnknown),
      costMicroUsd: Number(row.costMicroUsdUsed - row.costMicroUsdUnknown),
    },
    released: of('Released'),
    unknown: of('Unknown'),
  };
}
