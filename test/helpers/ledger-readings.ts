import type { Database } from '../../src/db/client.js';
import { type ModelAccount, type ModelTotal, type ModelTotals, UNITS, type Unit } from './ledger-model.js';

/** What the accounts' own columns say, in the form of the model: exact beyond 2^53. */

export async function readAccounts(database: Database, ids: string[]): Promise<ModelAccount[]> {
  const rows = await database.ledgerAccount.findMany({ where: { id: { in: ids } } });
  return rows.map((row) => {
    const of = <Part extends 'Limit' | 'Used' | 'Reserved'>(part: Part) =>
      Object.fromEntries(UNITS.map((unit) => [unit, row[`${unit}${part}`]])) as Record<Unit, bigint>;
    return { id: row.id, kind: row.kind, limits: of('Limit'), used: of('Used'), reserved: of('Reserved') };
  });
}

/** By account. */
export async function readTotals(database: Database, ids: string[]): Promise<Map<string, ModelTotals>> {
  const rows = await database.ledgerAccount.findMany({ where: { id: { in: ids } } });
  return new Map(
    rows.map((row) => {
      const total = (entries: bigint, amountOf: (unit: Unit) => bigint) =>
        Object.fromEntries([['entries', entries], ...UNITS.map((unit) => [unit, amountOf(unit)])]) as ModelTotal;
      return [
        row.id,
        {
          reserved: total(row.entriesReserved, (unit) => row[`${unit}Reserved`]),
          settled: total(row.entriesSettled, (unit) => row[`${unit}Used`] - row[`${unit}Unknown`]),
          released: total(row.entriesReleased, (unit) => row[`${unit}Released`]),
          unknown: total(row.entriesUnknown, (unit) => row[`${unit}Unknown`]),
        },
      ];
    }),
  );
}

export function plus(a: ModelTotals, b: ModelTotals): ModelTotals {
  const sumOf = (x: ModelTotal, y: ModelTotal) =>
    Object.fromEntries((['entries', ...UNITS] as const).map((unit) => [unit, x[unit] + y[unit]])) as ModelTotal;
  return {
    reserved: sumOf(a.reserved, b.reserved),
    settled: sumOf(a.settled, b.settled),
    released: sumOf(a.released, b.released),
    unknown: sumOf(a.unknown, b.unknown),
  };
}
