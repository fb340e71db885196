import pg from 'pg';
import { type Amounts, UNITS } from './amounts.js';

/** What Postgres holds of jobs and their spending, read past the proxy. */

export interface Reservation {
  jobId: string;
  purpose: string;
  state: 'reserved' | 'settled' | 'released' | 'unknown';
  generation: number | null;
  chunk: number | null;
  /** Which of the job's workers, one after the other, it was made by; null for probes. */
  epoch: number | null;
  /** The process that made it. */
  worker: string;
  amounts: Amounts;
  createdAt: number;
  closedAt: number | null;
}

export interface Account {
  limit: Amounts;
  used: Amounts;
  reserved: Amounts;
}

export interface JobRecord {
  status: string;
  generation: number;
  plannedGenerations: number;
  stopReason: string | null;
  error: string | null;
  /** Newest last: a job that went on after its budget was raised has another one. */
  adapters: string[];
  /** Generations whose metrics were told, one entry each time. */
  toldGenerations: number[];
  /** When a worker took it, one time for each epoch. */
  claimedAt: number[];
  /** How often the job said that it had succeeded. */
  successes: number;
}

type NumericRow = Record<string, string | number>;

export class Books {
  private readonly pool: pg.Pool;

  constructor(databaseUrl: string) {
    this.pool = new pg.Pool({ connectionString: databaseUrl, max: 2, connectionTimeoutMillis: 5_000 });
    this.pool.on('error', () => {});
  }

  /** Settled calls of some jobs; undefined while Postgres is away. */
  async settledCalls(jobIds: string[]): Promise<number | undefined> {
    const rows = await this.rows<{ calls: string }>(
      `SELECT count(*) AS calls FROM ledger_reservations WHERE account_id = ANY($1) AND state = 'settled'`,
      [jobIds],
    ).catch(() => undefined);
    return rows === undefined ? undefined : Number(rows[0].calls);
  }

  async accounts(jobIds: string[]): Promise<Map<string, Account>> {
    const rows = await this.rows<NumericRow>(`SELECT * FROM ledger_accounts WHERE id = ANY($1)`, [jobIds]);
    return new Map(
      rows.map((row) => [
        String(row.id),
        { limit: amountsOf(row, '_limit'), used: amountsOf(row, '_used'), reserved: amountsOf(row, '_reserved') },
      ]),
    );
  }

  async reservations(jobIds: string[]): Promise<Reservation[]> {
    const rows = await this.rows<NumericRow & { created_at: Date; closed_at: Date | null }>(
      `SELECT * FROM ledger_reservations WHERE account_id = ANY($1) ORDER BY id`,
      [jobIds],
    );
    return rows.map((row) => ({
      jobId: String(row.account_id),
      purpose: String(row.purpose),
      state: row.state as Reservation['state'],
      generation: row.generation as number | null,
      chunk: row.chunk as number | null,
      epoch: row.epoch as number | null,
      worker: String(row.worker),
      amounts: amountsOf(row, ''),
      createdAt: row.created_at.getTime(),
      closedAt: row.closed_at?.getTime() ?? null,
    }));
  }

  async job(id: string): Promise<JobRecord> {
    const [job] = await this.rows<NumericRow>(`SELECT * FROM jobs WHERE id = $1`, [id]);
    const adapters = await this.rows<{ id: string }>(`SELECT id FROM adapters WHERE job_id = $1 ORDER BY created_at`, [
      id,
    ]);
    const events = await this.rows<{ type: string; message: string; step: string | null; created_at: Date }>(
      `SELECT type, message, data->>'step' AS step, created_at FROM job_events WHERE job_id = $1 ORDER BY id`,
      [id],
    );
    return {
      status: String(job.status),
      generation: Number(job.generation),
      plannedGenerations: Number(job.planned_generations),
      stopReason: job.stop_reason as string | null,
      error: job.error_code === null ? null : `${job.error_code}: ${job.error_message}`,
      adapters: adapters.map((adapter) => adapter.id),
      toldGenerations: events.filter(({ type }) => type === 'metrics').map(({ step }) => Number(step)),
      claimedAt: events
        .filter(({ message }) => /^Training (started|goes on) /.test(message))
        .map(({ created_at }) => created_at.getTime()),
      successes: events.filter(({ message }) => message.startsWith('Training succeeded')).length,
    };
  }

  async jobCount(): Promise<number> {
    return Number((await this.rows<{ jobs: string }>(`SELECT count(*) AS jobs FROM jobs`))[0].jobs);
  }

  /** Accounts whose figures differ from the sum of their reservations, as the product's own view sees it. */
  async discrepancies(): Promise<string[]> {
    const rows = await this.rows<NumericRow>(`SELECT * FROM ledger_discrepancies`);
    return rows.map((row) => JSON.stringify(row));
  }

  close(): Promise<void> {
    return this.pool.end();
  }

  private async rows<Row extends pg.QueryResultRow>(sql: string, values: unknown[] = []): Promise<Row[]> {
    return (await this.pool.query<Row>(sql, values)).rows;
  }
}

function amountsOf(row: NumericRow, suffix: string): Amounts {
  return Object.fromEntries(UNITS.map((unit) => [unit, Number(row[unit + suffix])])) as Amounts;
}
