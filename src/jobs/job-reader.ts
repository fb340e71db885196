import { Batcher } from '../batcher.js';
import { type Database, Prisma } from '../db/client.js';
import type { Job } from '../db/generated/client.js';
import { BALANCE_COLUMNS, type Balance, type BalanceRow, toBalance } from '../ledger/accounts.js';

/** A job with what its answer needs: provider name, what it spent and its adapter. */
export interface JobDetails {
  job: Job;
  model: string;
  balance: Balance;
  fineTunedModel: string | null;
}

type JobRow = Job & { model: string; fineTunedModel: string | null };

const LARGEST_BATCH = 200;

/**
 * Reads jobs whole, each by its id. Clients poll, so this is the hottest of all reads: it is one statement, and those who
 * ask while it is under way share the next one.
 */
export class JobReader {
  private readonly reading = new Batcher<string, JobDetails | null>(
    (ids) => this.readAll(ids),
    (batch) => batch.length < LARGEST_BATCH,
  );

  constructor(private readonly database: Database) {}

  /** @returns null where there is no such job */
  read(id: string): Promise<JobDetails | null> {
    return this.reading.submit(id);
  }

  private async readAll(ids: string[]): Promise<(JobDetails | null)[]> {
    const rows = await this.database.$queryRaw<(JobRow & BalanceRow)[]>`
      SELECT ${COLUMNS} FROM jobs j
        JOIN providers p ON p.id = j.provider_id
        JOIN ledger_accounts l ON l.id = j.id
        WHERE j.id = ANY (${[...new Set(ids)]})`;
    const byId = new Map(rows.map((row) => [row.id, toDetails(row)]));
    return ids.map((id) => byId.get(id) ?? null);
  }
}

const JOB_FIELDS = Object.values(Prisma.JobScalarFieldEnum);

/** Every field under the name that Prisma gives it. A job that went on after its success has several adapters; the newest counts. */
const COLUMNS = Prisma.raw(
  [
    ...JOB_FIELDS.map((field) => `j.${toColumn(field)} AS "${field}"`),
    ...Object.keys(BALANCE_COLUMNS).map((field) => `l.${toColumn(field)} AS "${field}"`),
    'p.name AS "model"',
    `(SELECT a.id FROM adapters a WHERE a.job_id = j.id ORDER BY a.created_at DESC LIMIT 1) AS "fineTunedModel"`,
  ].join(', '),
);

/** The schema names columns as its fields, in snake case. */
function toColumn(field: string): string {
  return `"${field.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`)}"`;
}

function toDetails(row: JobRow & BalanceRow): JobDetails {
  return { job: row, model: row.model, balance: toBalance(row), fineTunedModel: row.fineTunedModel };
}
