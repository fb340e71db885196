import { z } from 'zod';
import type { EntryState, LedgerEntry } from '../../ledger/entries.js';
import { QUERY_PURPOSES } from '../../ledger/reservation.js';
import type { QueryAmounts } from '../../providers/provider.js';
import { listOf, notedSchema, toNoted, toUsage, usageSchema } from './common.js';

const moment = z.iso.datetime().describe('In UTC, with milliseconds.');

export const ledgerEntrySchema = z
  .object({
    id: z.string(),
    object: z.literal('fine_tuning.job.ledger_entry'),
    reserved_at: moment,
    closed_at: moment.nullable(),
    state: z
      .enum(['reserved', 'settled', 'released', 'unknown'])
      .describe(
        'reserved: sent, not answered yet. settled: served. released: certainly not billed. unknown: may have been billed, so it stays counted.',
      ),
    reason: z.string().nullable().describe('Why it was released or left unknown.'),
    purpose: z.enum(QUERY_PURPOSES),
    generation: z.int().nullable(),
    chunk: z.int().nullable().describe('Position of the call in its generation.'),
    attempt: z.int().describe('More than 1 where attempts of one purchase share the entry.'),
    epoch: z.int().nullable().describe('Counts the workers that had the job.'),
    worker: z.string(),
    api_key_id: z.string().nullable(),
    idempotency_key: z.string().nullable().describe('Sent to the provider, where it honours them.'),
    reserved: usageSchema,
    counted: usageSchema.describe('Of a settled call what the provider says it billed, where it says so.'),
    noted: notedSchema,
  })
  .meta({ id: 'LedgerEntry' });

const stateTotal = usageSchema.extend({ entries: z.int() });

export const ledgerSchema = listOf(ledgerEntrySchema).extend({
  totals: z
    .object({ reserved: stateTotal, settled: stateTotal, released: stateTotal, unknown: stateTotal })
    .describe("Of all entries, not of this page. settled + unknown is the budget's used, reserved its reserved."),
});

export function toLedgerEntry(entry: LedgerEntry): z.output<typeof ledgerEntrySchema> {
  return {
    id: entry.id,
    object: 'fine_tuning.job.ledger_entry',
    reserved_at: entry.createdAt.toISOString(),
    closed_at: entry.closedAt?.toISOString() ?? null,
    state: entry.state,
    reason: entry.reason,
    purpose: entry.purpose,
    generation: entry.generation,
    chunk: entry.chunk,
    attempt: entry.attempt,
    epoch: entry.epoch,
    worker: entry.worker,
    api_key_id: entry.apiKeyId,
    idempotency_key: entry.idempotencyKey,
    reserved: toUsage(entry.reserved),
    counted: toUsage(entry.counted),
    noted: toNoted(entry.noted),
  };
}

export function toTotals(totals: Record<EntryState, QueryAmounts & { entries: number }>) {
  const of = (state: EntryState) => ({ entries: totals[state].entries, ...toUsage(totals[state]) });
  return { reserved: of('reserved'), settled: of('settled'), released: of('released'), unknown: of('unknown') };
}

const USAGE_COLUMNS = ['prompt_evaluations', 'image_queries', 'requests', 'cost_usd'] as const;
const NOTED_COLUMNS = ['input_tokens', 'output_tokens', 'text_embeddings'] as const;
const COLUMNS = [
  'id',
  'reserved_at',
  'closed_at',
  'state',
  'reason',
  'purpose',
  'generation',
  'chunk',
  'attempt',
  'epoch',
  'worker',
  'api_key_id',
  'idempotency_key',
] as const;

export const LEDGER_CSV_HEADER = `${[
  ...COLUMNS,
  ...USAGE_COLUMNS.map((unit) => `reserved_${unit}`),
  ...USAGE_COLUMNS.map((unit) => `counted_${unit}`),
  ...NOTED_COLUMNS,
].join(',')}\r\n`;

/** One line as RFC 4180 has it. */
export function toCsvLine(entry: LedgerEntry): string {
  const row = toLedgerEntry(entry);
  const cells = [
    ...COLUMNS.map((column) => row[column]),
    ...USAGE_COLUMNS.map((unit) => row.reserved[unit]),
    ...USAGE_COLUMNS.map((unit) => row.counted[unit]),
    ...NOTED_COLUMNS.map((unit) => row.noted[unit]),
  ];
  return `${cells.map(toCell).join(',')}\r\n`;
}

function toCell(value: string | number | null): string {
  if (value === null) return '';
  const text = String(value);
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}
