import { createHash, randomInt } from 'node:crypto';
import type { Logger } from 'pino';
import type { Dataset } from '../datasets/dataset.js';
import type { DatasetStore } from '../datasets/dataset-store.js';
import { type Database, Prisma } from '../db/client.js';
import { ConflictError, InvalidRequestError, NotFoundError } from '../errors.js';
import { newId } from '../ids.js';
import type { Ledger } from '../ledger/ledger.js';
import { callLimits, imageTooLarge } from '../providers/call-limits.js';
import { largestImageBytes } from '../providers/calls.js';
import type { ProviderInfo, ProviderStore } from '../providers/provider-store.js';
import { type NewJobEvent, recordEvents } from './events.js';
import { discardTrainingState } from './job-ownership.js';
import type { JobDetails, JobQueries } from './job-queries.js';
import { type JobRequest, toQueryLimits } from './job-request.js';
import { chooseImages, type LabelledSet } from './labelled-images.js';
import { planTraining, type TrainingPlan } from './plan.js';
import { illegalTransition, statusesBefore, UNFINISHED_STATUSES } from './state-machine.js';

/** Hands a job to the workers. Adding one that is queued already changes nothing. */
export interface JobQueue {
  add(jobId: string): Promise<void>;
  remove(jobId: string): Promise<void>;
  has(jobId: string): Promise<boolean>;
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

/** Everything that brings a job about or ends it from outside; its worker does the rest (runner.ts). */
export class JobService {
  constructor(
    private readonly database: Database,
    private readonly ledger: Ledger,
    private readonly datasets: DatasetStore,
    private readonly providers: ProviderStore,
    private readonly queries: JobQueries,
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
      if (earlier) return this.queries.get(earlier);
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
      return this.queries.get(earlier);
    }
    // The job exists now, whatever becomes of its queue entry: one that is missing is put back by requeueOrphans.
    await this.queue.add(id).catch((err) => this.log.error({ err, jobId: id }, 'could not queue a job yet'));
    return this.queries.get(id);
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
    if (!cancelled) throw illegalTransition(id, 'cancelled', (await this.queries.get(id)).job.status);
    await this.unqueue(id).catch((err) => this.log.warn({ err, jobId: id }, 'could not unqueue a cancelled job'));
    return this.queries.get(id);
  }

  /**
   * Puts jobs back in the queue that Postgres holds as unfinished but the queue does not know: the process died between
   * the two writes, or the queue's store was lost.
   * @returns how many
   */
  async requeueOrphans(): Promise<number> {
    const jobs = await this.database.job.findMany({
      where: { status: { in: UNFINISHED_STATUSES } },
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
        status: { in: UNFINISHED_STATUSES },
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
