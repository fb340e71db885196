import { createHash, randomInt } from 'node:crypto';
import type { Logger } from 'pino';
import type { Dataset } from '../datasets/dataset.js';
import type { DatasetStore } from '../datasets/dataset-store.js';
import { type Database, Prisma } from '../db/client.js';
import { ConflictError, InvalidRequestError, NotFoundError } from '../errors.js';
import { newId } from '../ids.js';
import { DEFAULT_PROJECT, shortfall } from '../ledger/accounts.js';
import type { Ledger } from '../ledger/ledger.js';
import { callLimits, imageTooLarge } from '../providers/call-limits.js';
import { largestImageBytes } from '../providers/calls.js';
import type { ProviderInfo, ProviderStore } from '../providers/provider-store.js';
import { type NewJobEvent, recordEvents } from './events.js';
import { holdInputs } from './hold-inputs.js';
import type { JobDetails, JobQueries } from './job-queries.js';
import { DEFAULT_PATIENCE_SECONDS, type JobRequest, toQueryLimits } from './job-request.js';
import { chooseImages, type LabelledSet } from './labelled-images.js';
import { planTraining, type TrainingPlan } from './plan.js';
import { UNFINISHED_STATUSES } from './state-machine.js';

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

/** Everything that brings a job about. What people do to it then is job-control.ts; its worker does the rest (runner.ts). */
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
    const deadline = toDeadline(request.deadline);
    if (deadline && deadline.getTime() <= Date.now()) {
      throw new InvalidRequestError({
        code: 'deadline_passed',
        param: 'deadline',
        message: `The deadline ${deadline.toISOString()} lies in the past. It is a Unix time in seconds.`,
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
      await this.requireSharedLimits(provider.id, plan);
      return { request, provider, seed, plan };
    } finally {
      await Promise.all(opened.map((dataset) => dataset.close()));
    }
  }

  /** Creates a job. A repetition with the same Idempotency-Key answers the job of the first request. */
  async create(request: JobRequest, caller?: { apiKeyId: string; idempotencyKey?: string }): Promise<JobDetails> {
    const { apiKeyId, idempotencyKey: key } = caller ?? {};
    const idempotency = apiKeyId && key !== undefined ? { apiKeyId, key } : undefined;
    const requestHash = hashRequest(request);
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
            apiKeyId: apiKeyId ?? null,
            trainingFileId: request.training_file,
            validationFileId: request.validation_file ?? null,
            suffix: request.suffix ?? null,
            seed,
            metadata: request.metadata ?? Prisma.DbNull,
            method: request.method as unknown as Prisma.InputJsonObject,
            plan: plan as unknown as Prisma.InputJsonObject,
            plannedGenerations: plan.generations,
            deadline: toDeadline(request.deadline),
            providerPatienceSeconds: request.provider_patience_seconds,
          },
        });
        const account = { id, kind: 'job', providerId: provider.id } as const;
        await this.ledger.openAccount(tx, account, toQueryLimits(request.method.craft.budget));
        await recordEvents(tx, id, [created(plan)]);
      });
    } catch (error) {
      const duplicate = error instanceof Prisma.PrismaClientKnownRequestError && error.code === 'P2002';
      const earlier = duplicate && idempotency ? await this.earlierJob(idempotency, requestHash) : null;
      if (!earlier) throw error;
      return this.queries.get(earlier);
    }
    // The job exists now, whatever becomes of its queue entry: upkeep puts back one that is missing.
    await this.queue.add(id).catch((err) => this.log.error({ err, jobId: id }, 'could not queue a job yet'));
    return this.queries.get(id);
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

  /** Nobody should wait for a job that what others left of a shared limit cannot even begin. @throws LimitReachedError */
  private async requireSharedLimits(providerId: string, { perGeneration }: TrainingPlan): Promise<void> {
    const balances = await this.ledger.balances([providerId, DEFAULT_PROJECT]);
    for (const [id, kind] of [
      [providerId, 'provider'],
      [DEFAULT_PROJECT, 'project'],
    ] as const) {
      const shortage = shortfall(id, kind, perGeneration, balances.get(id)!);
      if (shortage) throw shortage;
    }
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

/** Fields that were added later count only where they are set, so that a repetition is known over an upgrade. */
function hashRequest({ provider_patience_seconds: patience, ...request }: JobRequest): Uint8Array<ArrayBuffer> {
  const said = patience === DEFAULT_PATIENCE_SECONDS ? request : { ...request, provider_patience_seconds: patience };
  return new Uint8Array(createHash('sha256').update(JSON.stringify(said)).digest());
}

function toDeadline(seconds: number | null | undefined): Date | null {
  return seconds === null || seconds === undefined ? null : new Date(seconds * 1000);
}
