import type { Closing, Reservation } from '../../src/ledger/reservation.js';
import type { BilledAmounts, QueryAmounts } from '../../src/providers/provider.js';

/** What the ledger must hold, kept in plain objects: told of every answer, it says what the accounts and rows are then. */

export const UNITS = ['promptEvaluations', 'imageQueries', 'requests', 'costMicroUsd'] as const;
export type Unit = (typeof UNITS)[number];

export interface ModelAccount {
  id: string;
  kind: string;
  limits: Record<Unit, bigint | null>;
  used: Record<Unit, bigint>;
  reserved: Record<Unit, bigint>;
}

export interface ModelRow {
  id: bigint;
  jobId: string;
  /** Null for what is no purchase of its own: nobody asks for it again. */
  key: string | null;
  state: 'reserved' | 'settled' | 'released' | 'unknown';
  attempt: number;
  epoch: number | null;
  doubtful: boolean;
  /** What it counts for. */
  amounts: Record<Unit, bigint>;
  accounts: ModelAccount[];
}

/** What the rows of one state count for. */
export type ModelTotal = Record<Unit | 'entries', bigint>;
export type ModelTotals = Record<ModelRow['state'], ModelTotal>;

export interface ModelJob {
  id: string;
  status: 'running' | 'paused' | 'cancelled';
  epoch: number;
  /** Its own, its provider's, the provider's day's, the project's. */
  accounts: ModelAccount[];
}

export interface Draw {
  job: ModelJob;
  amounts: QueryAmounts;
  /** Null for a probe of a paused job. */
  epoch: number | null;
  key: string | null;
}

const none = (): Record<Unit, bigint> => ({ promptEvaluations: 0n, imageQueries: 0n, requests: 0n, costMicroUsd: 0n });

export class LedgerModel {
  readonly rows: ModelRow[] = [];

  /** An account without limits. */
  account(id: string, kind: string): ModelAccount {
    const limits = { promptEvaluations: null, imageQueries: null, requests: null, costMicroUsd: null };
    return { id, kind, limits, used: none(), reserved: none() };
  }

  /** The row of a purchase. */
  known(key: string | null): ModelRow | undefined {
    return key === null ? undefined : this.rows.find((row) => row.key === key);
  }

  /** What the answer to a draw must be if nothing else happens at the same time. */
  expectedAnswer({ job, epoch, amounts, key }: Draw): 'reserved' | 'refused' | { account: ModelAccount; unit: Unit } {
    const allowed = epoch === null ? job.status === 'paused' : job.status === 'running' && epoch === job.epoch;
    if (!allowed) return 'refused';
    const known = this.known(key);
    if (known && known.state !== 'released') return 'reserved';
    for (const account of job.accounts) {
      for (const unit of UNITS) {
        const [limit, needed] = [account.limits[unit], BigInt(amounts[unit])];
        const taken = account.used[unit] + account.reserved[unit];
        if (limit !== null && needed > 0n && taken + needed > limit) return { account, unit };
      }
    }
    return 'reserved';
  }

  reserved({ job, epoch, amounts, key }: Draw, { id, attempt }: Reservation): ModelRow {
    const known = this.known(key);
    if (!known) {
      const row: ModelRow = {
        id,
        jobId: job.id,
        key,
        state: 'released',
        attempt: 0,
        epoch,
        doubtful: false,
        amounts: none(),
        accounts: job.accounts,
      };
      this.rows.push(row);
      return this.draw(row, amounts, epoch, attempt);
    }
    if (known.state === 'released') return this.draw(known, amounts, epoch, attempt);
    if (known.state !== 'reserved') this.move(known, 'used', 'reserved');
    Object.assign(known, { state: 'reserved', doubtful: true, epoch, attempt });
    return known;
  }

  private draw(row: ModelRow, amounts: QueryAmounts, epoch: number | null, attempt: number): ModelRow {
    for (const unit of UNITS) {
      row.amounts[unit] = BigInt(amounts[unit]);
      for (const account of row.accounts) account.reserved[unit] += row.amounts[unit];
    }
    return Object.assign(row, { state: 'reserved', doubtful: false, epoch, attempt });
  }

  /** Whether the closing of an attempt finds that attempt open. */
  isOpen({ id, attempt, epoch }: Reservation): boolean {
    const row = this.rowOf(id);
    return row.state === 'reserved' && row.attempt === attempt && row.epoch === epoch;
  }

  /** Whether the closing of an attempt was made already. */
  isMade({ id, attempt, epoch }: Reservation, closing: Closing): boolean {
    const row = this.rowOf(id);
    const state = closing.state === 'released' && row.doubtful ? 'unknown' : closing.state;
    return row.state === state && row.attempt === attempt && row.epoch === epoch;
  }

  closed({ id }: Reservation, closing: Closing): void {
    const row = this.rowOf(id);
    if (closing.state === 'released' && !row.doubtful) {
      for (const unit of UNITS) {
        for (const account of row.accounts) account.reserved[unit] -= row.amounts[unit];
      }
      row.state = 'released';
      return;
    }
    this.move(row, 'reserved', 'used');
    row.state = closing.state === 'settled' ? 'settled' : 'unknown';
    if (closing.state === 'settled' && closing.billed) this.bill(row, closing.billed);
  }

  /** What the rows that draw on an account add up to, by their state. */
  totals(account: ModelAccount): ModelTotals {
    const total = (): ModelTotal => ({ entries: 0n, ...none() });
    const totals = { reserved: total(), settled: total(), released: total(), unknown: total() };
    for (const { state, amounts } of this.rows.filter(({ accounts }) => accounts.includes(account))) {
      totals[state].entries++;
      for (const unit of UNITS) totals[state][unit] += amounts[unit];
    }
    return totals;
  }

  /** A new owner counts what earlier ones left open. */
  takenOver(jobId: string, epoch: number): void {
    for (const row of this.rows) {
      if (row.jobId !== jobId || row.state !== 'reserved' || (row.epoch !== null && row.epoch >= epoch)) continue;
      this.move(row, 'reserved', 'used');
      row.state = 'unknown';
    }
  }

  rowOf(id: bigint): ModelRow {
    return this.rows.find((row) => row.id === id)!;
  }

  private bill(row: ModelRow, billed: BilledAmounts): void {
    for (const unit of ['imageQueries', 'requests', 'costMicroUsd'] as const) {
      for (const account of row.accounts) account.used[unit] += BigInt(billed[unit]) - row.amounts[unit];
      row.amounts[unit] = BigInt(billed[unit]);
    }
  }

  private move(row: ModelRow, from: 'used' | 'reserved', to: 'used' | 'reserved'): void {
    for (const unit of UNITS) {
      for (const account of row.accounts) {
        account[from][unit] -= row.amounts[unit];
        account[to][unit] += row.amounts[unit];
      }
    }
  }
}
