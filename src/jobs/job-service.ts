import { createHash, randomInt } from 'node:crypto';
import type { Logger } from 'pino';
import type { Dataset } from '../datasets/dataset.js';
import type { DatasetStore } from '../datasets/dataset-store.js';
import { type Database, Prisma } from '../db/client.js';
import type { Job, JobEvent } from '../db/generated/client.js';
import { ConflictError, InvalidRequestError, NotFoundError } from '../errors.js';
import { newId } from '../ids.js';
import type { Balance, Ledger } from '../ledger/ledger.js';
import { callLimits, imageTooLarge } from '../providers/call-limits.js';
import { largestImageBytes } from '../providers/calls.js';
import type { ProviderInfo, ProviderStore } from '../providers/provider-store.js';
import { type NewJobEvent, recordEvents } from './events.js';
import { discardTrainingState } from './job-ownership.js';
import { type JobRequest, toQueryLimits } from './job-request.js';
import { chooseImages, type LabelledSet } from './labelled-images.js';
import { planTraining, type TrainingPlan } from './plan.js';
import { illegalTransition, statusesBefore } from './state-machine.js';

/** Hands a job to the workers. Adding one that is queued already changes nothing. */
export interface JobQueue {
  add(jobId: string): Promise<void>;
  remove(jobId: string): Promise<void>;
  has(jobId: string): Promise<boolean>;
}

/** A job with what its answer needs: provider name, what it spent and its adapter. */
export interface JobDetails {
  job: Job;
  model: string;
  balance: Balance;
  fineTunedModel: string | null;
}

export interface Page<Item> {
  data: Item[];
  hasMore: boolean;
}

export interface PageRequest {
  limit: number;
  after?: string;
}

/** A plan with everything that was decided on the way to it. */
export interface PlannedJob {
  request: JobRequest;
  provider: ProviderInfo;
  seed: number;
  plan: TrainingPlan;
}

interface IdempotencyKey {
  apiKeyId: string;
  key: string;
}

export class JobService {
  constructor(
    private readonly database: Database,
    private readonly ledger: Ledger,
    private readonly datasets: DatasetStore,
    private readonly providers: ProviderStore,
    private readonly queue: JobQueue,
    private readonly log: Logger,
  ) {}

  /**
   * Checks everything that can be known before the first query, and says what the job would do and spend.
   * @throws InvalidRequestError naming the field that is wrong
   */
  async plan(request: JobRequest): Promise<PlannedJob> {
    const provider = await this.providers.findByName(request.model);
    if (!provider) {
      throw new InvalidRequestError({
        code: 'model_not_found',
        param: 'model',
        message: `No provider is named "${request.model}". GET /v1/providers lists them; POST /v1/providers adds one.`,
      });
    }
    const seed = request.seed ?? randomInt(2 ** 31 - 1);
    const opened: Dataset[] = [];
    try {
      const open = async (id: string, param: string) => {
        const dataset = await this.openFile(id, param);
        opened.push(dataset);
        return dataset;
      };
      const training = await open(request.training_file, 'training_file');
      const validation = request.validation_file ? await open(request.validation_file, 'validation_file') : null;
      const { craft } = request.method;
      const images = chooseImages(training, validation, { validationFraction: craft.validation_fraction, seed });
      if (craft.checkpoint_selection === 'best_validation' && images.validation.images.length === 0) {
        throw new InvalidRequestError({
          code: 'validation_images_missing',
          param: 'method.craft.checkpoint_selection',
          message:
            'best_validation needs validation images: a validation_file, a validation/ folder or validation_fraction.',
        });
      }
      const calls = callLimits(provider, { classNames: images.classes }, 'training_file');
      const fits = { providerName: provider.name, largest: largestImageBytes(calls) };
      requireImagesFit(images.training, { ...fits, file: training, param: 'training_file' });
      requireImagesFit(images.validation, {
        ...fits,
        ...(validation ? { file: validation, param: 'validation_file' } : { file: training, param: 'training_file' }),
      });
      const plan = planTraining({
        populationSize: craft.hyperparameters.population_size,
        trainingImages: images.training.images.map(({ size }) => size),
        validationImages: images.validation.images.map(({ size }) => size),
        classes: images.classes.length,
        limits: toQueryLimits(craft.budget),
        calls,
        provider: { requestsPerSecond: provider.limits.requestsPerSecond, prices: provider.prices },
      });
      return { request, provider, seed, plan };
    } finally {
      await Promise.all(opened.map((dataset) => dataset.close()));
    }
  }

  /** Creates a job. A repetition with the same Idempotency-Key answers the job of the first request. */
  async create(request: JobRequest, idempotency?: IdempotencyKey): Promise<JobDetails> {
    const requestHash = new Uint8Array(createHash('sha256').update(JSON.stringify(request)).digest());
    if (idempotency) {
      const earlier = await this.earlierJob(idempotency, requestHash);
      if (earlier) return this.get(earlier);
    }
    const { provider, seed, plan } = await this.plan(request);
    const id = newId('ftjob-');
    try {
      await this.database.$transaction(async (tx) => {
        if (idempotency) {
          await tx.idempotentRequest.create({ data: { ...idempotency, requestHash, status: 200, response: { id } } });
        }
        await holdInputs(tx, provider.id, [request.training_file, request.validation_file ?? request.training_file]);
        await tx.job.create({
          data: {
            id,
            status: 'queued',
            providerId: provider.id,
            trainingFileId: request.training_file,
            validationFileId: request.validation_file ?? null,
            suffix: request.suffix ?? null,
            seed,
            metadata: request.metadata ?? Prisma.DbNull,
            method: request.method as unknown as Prisma.InputJsonObject,
            plan: plan as unknown as Prisma.InputJsonObject,
            plannedGenerations: plan.generations,
          },
        });
        await this.ledger.openAccount(tx, id, provider.id, toQueryLimits(request.method.craft.budget));
        await recordEvents(tx, id, [created(plan)]);
      });
    } catch (error) {
      const duplicate = error instanceof Prisma.PrismaClientKnownRequestError && error.code === 'P2002';
      const earlier = duplicate && idempotency ? await this.earlierJob(idempotency, requestHash) : null;
      if (!earlier) throw error;
      return this.get(earlier);
    }
    // The job exists now, whatever becomes of its queue entry: one that is missing is put back by requeueOrphans.
    await this.queue.add(id).catch((err) => this.log.error({ err, jobId: id }, 'could not queue a job yet'));
    return this.get(id);
  }

  async get(id: string): Promise<JobDetails> {
    const job = await this.database.job.findUnique({ where: { id }, include: INCLUDED });
    if (!job) throw jobNotFound(id);
    return toDetails(job, await this.ledger.balance(id));
  }

  async list({ limit, after }: PageRequest): Promise<Page<JobDetails>> {
    const cursor = after === undefined ? undefined : await this.database.job.findUnique({ where: { id: after } });
    if (after !== undefined && !cursor) throw badCursor(after);
    const rows = await this.database.job.findMany({
      where: cursor ? olderThan(cursor) : {},
      orderBy: [{ createdAt: 'desc' }, { id: 'desc' }],
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

  /** Stops a job: its worker is refused at its next provider call. */
  async cancel(id: string): Promise<JobDetails> {
    const cancelled = await this.database.$transaction(async (tx) => {
      const updated = await tx.$executeRaw`
        UPDATE jobs SET status = 'cancelled', finished_at = now()
        WHERE id = ${id} AND status IN (${Prisma.join(statusesBefore('cancelled'))})`;
      if (updated === 0) return false;
      await discardTrainingState(tx, id);
      await recordEvents(tx, id, [{ level: 'info', type: 'message', message: 'The job was cancelled.' }]);
      return true;
    });
    if (!cancelled) throw illegalTransition(id, 'cancelled', (await this.get(id)).job.status);
    await this.unqueue(id).catch((err) => this.log.warn({ err, jobId: id }, 'could not unqueue a cancelled job'));
    return this.get(id);
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
    return { data: rows.slice(0, limit), hasMore: rows.length > limit };
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
    return { data: rows.slice(0, limit), hasMore: rows.length > limit, fineTunedModel: job.adapter?.id ?? null };
  }

  /**
   * Puts jobs back in the queue that Postgres holds as unfinished but the queue does not know: the process died between
   * the two writes, or the queue's store was lost.
   * @returns how many
   */
  async requeueOrphans(): Promise<number> {
    const jobs = await this.database.job.findMany({
      where: { status: { in: ['validating_files', 'queued', 'running'] } },
      select: { id: true },
    });
    let requeued = 0;
    for (const { id } of jobs) {
      if (await this.queue.has(id)) continue;
      await this.queue.add(id);
      requeued++;
    }
    return requeued;
  }

  /** @throws ConflictError while a job that is not finished reads the file */
  async requireFileUnused(fileId: string): Promise<void> {
    const job = await this.database.job.findFirst({
      where: {
        status: { in: ['validating_files', 'queued', 'running'] },
        OR: [{ trainingFileId: fileId }, { validationFileId: fileId }],
      },
      select: { id: true },
    });
    if (!job) return;
    throw new ConflictError({
      code: 'file_in_use',
      param: 'file_id',
      message: `Job ${job.id} is not finished and uses this file. Cancel the job or wait for its end.`,
    });
  }

  /** A worker that has the job finds it cancelled and closes its calls; where none has it, they are closed here. */
  private async unqueue(id: string): Promise<void> {
    await this.queue.remove(id);
    if (!(await this.queue.has(id))) await this.ledger.leaveUnknownOf(id);
  }

  private async requireJob(id: string): Promise<{ status: string }> {
    const job = await this.database.job.findUnique({ where: { id }, select: { status: true } });
    if (!job) throw jobNotFound(id);
    return job;
  }

  private async openFile(id: string, param: string): Promise<Dataset> {
    try {
      return await this.datasets.open(id);
    } catch (error) {
      if (!(error instanceof NotFoundError)) throw error;
      throw new InvalidRequestError({
        code: 'file_not_found',
        param,
        message: `There is no file ${id}. Upload it with POST /v1/files first.`,
      });
    }
  }

  private async earlierJob(idempotency: IdempotencyKey, requestHash: Uint8Array): Promise<string | null> {
    const row = await this.database.idempotentRequest.findUnique({ where: { apiKeyId_key: idempotency } });
    if (!row) return null;
    if (!Buffer.from(row.requestHash).equals(requestHash)) {
      throw new ConflictError({
        code: 'idempotency_key_reused',
        param: 'Idempotency-Key',
        message: 'This Idempotency-Key was used with a different request. Use a new key for a new job.',
      });
    }
    return (row.response as { id: string }).id;
  }
}

/** @throws InvalidRequestError naming an image that no request to the provider has room for */
function requireImagesFit(
  { images }: LabelledSet,
  where: { providerName: string; largest: number; file: Dataset; param: string },
): void {
  const { providerName, largest, file, param } = where;
  const image = images.find(({ size }) => size > largest);
  if (!image) return;
  const name = file.images.find(({ sha256 }) => sha256 === image.sha256)?.name;
  throw new InvalidRequestError({ ...imageTooLarge(providerName, `Image ${name}`, image.size, largest), param });
}

/** Keeps provider and files from being deleted between their check and the job's creation. */
async function holdInputs(tx: Prisma.TransactionClient, providerId: string, fileIds: string[]): Promise<void> {
  const providers = await tx.$queryRaw<unknown[]>`
    SELECT 1 FROM providers WHERE id = ${providerId} AND deleted_at IS NULL FOR SHARE`;
  const files = await tx.$queryRaw<unknown[]>`
    SELECT 1 FROM files WHERE id IN (${Prisma.join(fileIds)}) AND deleted_at IS NULL FOR SHARE`;
  if (providers.length === 1 && files.length === new Set(fileIds).size) return;
  throw new ConflictError({
    code: 'input_deleted',
    param: null,
    message: 'The provider or a file of this job was deleted just now. Check both and create the job again.',
  });
}

const INCLUDED = { provider: { select: { name: true } }, adapter: { select: { id: true } } } as const;

function toDetails(
  row: Job & { provider: { name: string }; adapter: { id: string } | null },
  balance: Balance,
): JobDetails {
  const { provider, adapter, ...job } = row;
  return { job, model: provider.name, balance, fineTunedModel: adapter?.id ?? null };
}

/** Rows that come after `cursor` when the newest come first. */
export function olderThan(cursor: { createdAt: Date; id: string }) {
  return {
    OR: [{ createdAt: { lt: cursor.createdAt } }, { createdAt: cursor.createdAt, id: { lt: cursor.id } }],
  };
}

function created(plan: TrainingPlan): NewJobEvent {
  return {
    level: 'info',
    type: 'message',
    message:
      `Created. The plan: ${plan.generations} generations on ${plan.trainingImages} training images of ${plan.classes} ` +
      `classes, ${plan.total.promptEvaluations} prompt evaluations, ${plan.total.imageQueries} image queries, ` +
      `${plan.total.requests} requests.`,
  };
}

function jobNotFound(id: string): NotFoundError {
  return new NotFoundError({
    code: 'job_not_found',
    param: 'fine_tuning_job_id',
    message: `There is no job ${id}. GET /v1/fine_tuning/jobs lists them.`,
  });
}

export function badCursor(after: string): InvalidRequestError {
  return new InvalidRequestError({
    code: 'invalid_cursor',
    param: 'after',
    message: `"${after}" is no id of an item in this list. Use the last id of the page before.`,
  });
}

const EVENT_ID_PREFIX = 'ftevent-';

export function eventId(id: bigint): string {
  return `${EVENT_ID_PREFIX}${id}`;
}

/** @param param where the id came from, for the error */
export function parseEventId(text: string, param = 'after'): bigint {
  const digits = /^ftevent-(\d{1,18})$/.exec(text)?.[1];
  if (digits !== undefined) return BigInt(digits);
  if (param === 'after') throw badCursor(text);
  throw new InvalidRequestError({
    code: 'invalid_cursor',
    param,
    message: `"${text.slice(0, 64)}" is no id of an event. Send the last id that the stream gave, or leave it out.`,
  });
}
