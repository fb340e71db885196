import { type Database, Prisma } from '../db/client.js';
import type { Job, JobEvent } from '../db/generated/client.js';
import { NotFoundError } from '../errors.js';
import type { Balance } from '../ledger/accounts.js';
import { allEntries, type LedgerEntry, listEntries } from '../ledger/entries.js';
import type { Ledger } from '../ledger/ledger.js';
import { readStateTotals } from '../ledger/state-totals.js';
import { badCursor, NEWEST_FIRST, olderThan, type Page, type PageRequest, toPage } from '../paging.js';
import { parseEventId } from './event-id.js';
import { type JobDetails, JobReader } from './job-reader.js';

export type { JobDetails };

interface JobFilter {
  metadata?: Record<string, string> | null;
}

/** What can be read of jobs. */
export class JobQueries {
  private readonly reader: JobReader;

  constructor(
    private readonly database: Database,
    private readonly ledger: Ledger,
  ) {
    this.reader = new JobReader(database);
  }

  async get(id: string): Promise<JobDetails> {
    const details = await this.reader.read(id);
    if (!details) throw jobNotFound(id);
    return details;
  }

  /** @param metadata entries that the jobs have in theirs; null: jobs without any */
  async list({ limit, after, metadata }: PageRequest & JobFilter): Promise<Page<JobDetails>> {
    const cursor = after === undefined ? undefined : await this.database.job.findUnique({ where: { id: after } });
    if (after !== undefined && !cursor) throw badCursor(after);
    const rows = await this.database.job.findMany({
      where: { AND: [cursor ? olderThan(cursor) : {}, ...withMetadata(metadata)] },
      orderBy: NEWEST_FIRST,
      take: limit + 1,
      include: INCLUDED,
    });
    const page = rows.slice(0, limit);
    const balances = await this.ledger.balances(page.map((job) => job.id));
    return {
      data: page.map((job) => toDetails(job, balances.get(job.id)!)),
      hasMore: rows.length > limit,
    };
  }

  /** Newest first, as OpenAI's endpoint lists them; `after` is the id of an event. */
  async events(jobId: string, { limit, after }: PageRequest): Promise<Page<JobEvent>> {
    await this.requireJob(jobId);
    const before = after === undefined ? undefined : parseEventId(after);
    const rows = await this.database.jobEvent.findMany({
      where: { jobId, ...(before === undefined ? {} : { id: { lt: before } }) },
      orderBy: { id: 'desc' },
      take: limit + 1,
    });
    return toPage(rows, limit);
  }

  /** Oldest first, for live streams. */
  async eventsSince(jobId: string, after: bigint, limit: number): Promise<JobEvent[]> {
    return this.database.jobEvent.findMany({
      where: { jobId, id: { gt: after } },
      orderBy: { id: 'asc' },
      take: limit,
    });
  }

  async status(jobId: string): Promise<string> {
    return (await this.requireJob(jobId)).status;
  }

  /** Newest first, without their weights. */
  async checkpoints(jobId: string, { limit, after }: PageRequest) {
    const job = await this.database.job.findUnique({ where: { id: jobId }, include: INCLUDED });
    if (!job) throw jobNotFound(jobId);
    const cursor = after === undefined ? null : await this.database.checkpoint.findUnique({ where: { id: after } });
    if (after !== undefined && cursor?.jobId !== jobId) throw badCursor(after);
    const rows = await this.database.checkpoint.findMany({
      where: { jobId, ...(cursor ? { generation: { lt: cursor.generation } } : {}) },
      orderBy: { generation: 'desc' },
      take: limit + 1,
      omit: { weights: true },
    });
    return { ...toPage(rows, limit), fineTunedModel: job.adapters[0]?.id ?? null };
  }

  /** What a job spent, newest first, and the totals of everything by state. */
  async ledgerPage(jobId: string, page: PageRequest) {
    await this.requireJob(jobId);
    const [entries, totals] = await Promise.all([
      listEntries(this.database, jobId, page),
      readStateTotals(this.database, jobId),
    ]);
    return { page: entries, totals };
  }

  /** All of what a job spent, oldest first, read as it is consumed. */
  async allLedgerEntries(jobId: string): Promise<AsyncGenerator<LedgerEntry>> {
    await this.requireJob(jobId);
    return allEntries(this.database, jobId);
  }

  private async requireJob(id: string): Promise<{ status: string }> {
    const job = await this.database.job.findUnique({ where: { id }, select: { status: true } });
    if (!job) throw jobNotFound(id);
    return job;
  }
}

function withMetadata(metadata: JobFilter['metadata']): Prisma.JobWhereInput[] {
  if (metadata === null) return [{ metadata: { equals: Prisma.AnyNull } }];
  return Object.entries(metadata ?? {}).map(([key, equals]) => ({ metadata: { path: [key], equals } }));
}

/** A job that went on after its success has made several adapters; the newest counts. */
const INCLUDED = {
  provider: { select: { name: true } },
  adapters: { select: { id: true }, orderBy: { createdAt: 'desc' }, take: 1 },
} as const;

function toDetails(
  row: Job & { provider: { name: string }; adapters: { id: string }[] },
  balance: Balance,
): JobDetails {
  const { provider, adapters, ...job } = row;
  return { job, model: provider.name, balance, fineTunedModel: adapters[0]?.id ?? null };
}

function jobNotFound(id: string): NotFoundError {
  return new NotFoundError({
    code: 'job_not_found',
    param: 'fine_tuning_job_id',
    message: `There is no job ${id}. GET /v1/fine_tuning/jobs lists them.`,
  });
}
