import type { Database } from '../db/client.js';
import type { Reservation as Row } from '../db/generated/client.js';
import { badCursor, type Page, type PageRequest, toPage } from '../paging.js';
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
