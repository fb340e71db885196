import type { Database } from '../db/client.js';
import type { Reservation as Row } from '../db/generated/client.js';
import type { Page, PageRequest } from '../paging.js';
import { badCursor, toPage } from '../paging.js';
import type { QueryAmounts } from '../providers/provider.js';
import type { Noted } from './accounts.js';
import type { QueryPurpose } from './reservation.js';

/** The ledger as a list: every provider call of an account. */

export type EntryState = 'reserved' | 'settled' | 'released' | 'unknown';

export interface LedgerEntry {
  id: string;
  createdAt: Date;
  closedAt: Date | null;
  state: EntryState;
  /** Why it was released or left unknown. */
  reason: string | null;
  purpose: QueryPurpose;
  generation: number | null;
  chunk: number | null;
  /** More than 1 where attempts of one purchase share the entry. */
  attempt: number;
  epoch: number | null;
  worker: string;
  apiKeyId: string | null;
  /** The key that was sent to the provider, where it honours them. */
  idempotencyKey: string | null;
  /** What was reserved. */
  reserved: QueryAmounts;
  /** What counts against the budget: of a settled call what the provider says it billed, where it says so. */
  counted: QueryAmounts;
  noted: Noted;
}

const CSV_PAGE = 1000;

/** Newest first. @throws InvalidRequestError when `after` is no entry's id */
export async function listEntries(
  database: Database,
  accountId: string,
  { limit, after }: PageRequest,
): Promise<Page<LedgerEntry>> {
  if (after !== undefined && !/^\d{1,18}$/.test(after)) throw badCursor(after);
  const rows = await database.reservation.findMany({
    where: { accountId, ...(after === undefined ? {} : { id: { lt: BigInt(after) } }) },
    orderBy: { id: 'desc' },
    take: limit + 1,
  });
  const page = toPage(rows, limit);
  return { ...page, data: page.data.map(toEntry) };
}

/** All entries, oldest first, read in pages as they are consumed. */
export async function* allEntries(database: Database, accountId: string): AsyncGenerator<LedgerEntry> {
  let last = 0n;
  for (;;) {
    const rows = await database.reservation.findMany({
      where: { accountId, id: { gt: last } },
      orderBy: { id: 'asc' },
      take: CSV_PAGE,
    });
    for (const row of rows) yield toEntry(row);
    if (rows.length < CSV_PAGE) return;
    last = rows[rows.length - 1].id;
  }
}

/** What entries of each state count for; their sums are the account's used (settled, unknown) and reserved. */
export async function totalsByState(
  database: Database,
  accountId: string,
): Promise<Record<EntryState, QueryAmounts & { entries: number }>> {
  const rows = await database.$queryRaw<
    { state: EntryState; entries: bigint; p: bigint; i: bigint; r: bigint; c: bigint }[]
  >`
    SELECT state, count(*) AS entries, sum(prompt_evaluations)::bigint AS p,
      sum(CASE WHEN state = 'settled' THEN coalesce(billed_image_queries, image_queries) ELSE image_queries END)::bigint AS i,
      sum(CASE WHEN state = 'settled' THEN coalesce(billed_requests, requests) ELSE requests END)::bigint AS r,
      sum(CASE WHEN state = 'settled' THEN coalesce(billed_cost_micro_usd, cost_micro_usd) ELSE cost_micro_usd END)::bigint AS c
    FROM ledger_reservations WHERE account_id = ${accountId} GROUP BY state`;
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
  return { reserved: of('reserved'), settled: of('settled'), released: of('released'), unknown: of('unknown') };
}

function toEntry(row: Row): LedgerEntry {
  const reserved: QueryAmounts = {
    promptEvaluations: Number(row.promptEvaluations),
    imageQueries: Number(row.imageQueries),
    requests: Number(row.requests),
    costMicroUsd: Number(row.costMicroUsd),
  };
  return {
    id: String(row.id),
    createdAt: row.createdAt,
    closedAt: row.closedAt,
    state: row.state as EntryState,
    reason: row.reason,
    purpose: row.purpose as QueryPurpose,
    generation: row.generation,
    chunk: row.chunk,
    attempt: row.attempt,
    epoch: row.epoch,
    worker: row.worker,
    apiKeyId: row.apiKeyId,
    // Without what tells the purchase from a later one, after the provider had forgotten the key.
    idempotencyKey: row.purchaseKey.includes('/') ? row.purchaseKey.replace(/#\d+$/, '') : null,
    reserved,
    counted: countedOf(row, reserved),
    noted: {
      inputTokens: Number(row.billedInputTokens ?? 0),
      outputTokens: Number(row.billedOutputTokens ?? 0),
      textEmbeddings: Number(row.textEmbeddings),
    },
  };
}

function countedOf(row: Row, reserved: QueryAmounts): QueryAmounts {
  if (row.state === 'released') return { promptEvaluations: 0, imageQueries: 0, requests: 0, costMicroUsd: 0 };
  return {
    promptEvaluations: reserved.promptEvaluations,
    imageQueries: Number(row.billedImageQueries ?? row.imageQueries),
    requests: Number(row.billedRequests ?? row.requests),
    costMicroUsd: Number(row.billedCostMicroUsd ?? row.costMicroUsd),
  };
}
