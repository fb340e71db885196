import type { Database } from '../db/client.js';
import type { QueryAmounts } from '../providers/provider.js';
import type { EntryState } from './entries.js';

/** What the entries of each state count for; their sums are the account's used (settled, unknown) and reserved. */
export type StateTotals = Record<EntryState, QueryAmounts & { entries: number }>;

interface Known {
  version: string;
  totals: StateTotals;
}

interface Row {
  version: string;
  /** null where the account has no entries. */
  state: EntryState | null;
  entries: bigint;
  p: bigint;
  i: bigint;
  r: bigint;
  c: bigint;
}

const ACCOUNTS_KEPT = 1000;

/**
 * Adds up an account's entries by state, and again only after they have changed. Every reservation and every closing
 * rewrites the row of its account in the same transaction, so that Postgres' own name for the row's version tells.
 */
export class LedgerStateTotals {
  /** In order of last use, oldest first. */
  private readonly known = new Map<string, Known>();

  constructor(private readonly database: Database) {}

  async of(accountId: string): Promise<StateTotals> {
    const known = this.known.get(accountId);
    const isCurrent = known !== undefined && known.version === (await this.versionOf(accountId));
    const current = isCurrent ? known : await this.addUp(accountId);
    this.known.delete(accountId);
    this.known.set(accountId, current);
    if (this.known.size > ACCOUNTS_KEPT) this.known.delete(this.known.keys().next().value ?? '');
    return current.totals;
  }

  private async versionOf(accountId: string): Promise<string | undefined> {
    const rows = await this.database.$queryRaw<{ version: string }[]>`
      SELECT xmin::text || ctid::text AS version FROM ledger_accounts WHERE id = ${accountId}`;
    return rows[0]?.version;
  }

  /** Version and entries in one statement, which sees them as of one moment. */
  private async addUp(accountId: string): Promise<Known> {
    const rows = await this.database.$queryRaw<Row[]>`
      SELECT l.xmin::text || l.ctid::text AS version, t.* FROM ledger_accounts l LEFT JOIN (
        SELECT state, count(*) AS entries, sum(prompt_evaluations)::bigint AS p,
          sum(CASE WHEN state = 'settled' THEN coalesce(billed_image_queries, image_queries) ELSE image_queries END)::bigint AS i,
          sum(CASE WHEN state = 'settled' THEN coalesce(billed_requests, requests) ELSE requests END)::bigint AS r,
          sum(CASE WHEN state = 'settled' THEN coalesce(billed_cost_micro_usd, cost_micro_usd) ELSE cost_micro_usd END)::bigint AS c
        FROM ledger_reservations WHERE account_id = ${accountId} GROUP BY state
      ) t ON true WHERE l.id = ${accountId}`;
    const of = (state: EntryState) => {
      const row = rows.find((candidate) => candidate.state === state);
      return {
        entries: Number(row?.entries ?? 0n),
        promptEvaluations: Number(row?.p ?? 0n),
        imageQueries: Number(row?.i ?? 0n),
        requests: Number(row?.r ?? 0n),
        costMicroUsd: Number(row?.c ?? 0n),
      };
    };
    return {
      version: rows[0]?.version ?? '',
      totals: { reserved: of('reserved'), settled: of('settled'), released: of('released'), unknown: of('unknown') },
    };
  }
}
