import { createHash } from 'node:crypto';
import type { Logger } from 'pino';
import { fillHyperparameters } from '../craft/hyperparameters.js';
import { type Database, Prisma } from '../db/client.js';
import { ConflictError } from '../errors.js';
import { newId } from '../ids.js';
import type { Ledger } from '../ledger/ledger.js';
import { describePlan } from './describe-plan.js';
import { recordEvents } from './events.js';
import { holdInputs } from './hold-inputs.js';
import type { JobPlanner } from './job-planner.js';
import type { JobDetails, JobQueries } from './job-queries.js';
import { DEFAULT_PATIENCE_SECONDS, type JobRequest, toDeadline, toQueryLimits } from './job-request.js';
import { UNFINISHED_STATUSES } from './state-machine.js';

/** Hands a job to the workers. Adding one that is queued already changes nothing. */
export interface JobQueue {
  add(jobId: string): Promise<void>;
  remove(jobId: string): Promise<void>;
  has(jobId: string): Promise<boolean>;
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
    private readonly planner: JobPlanner,
    private readonly queries: JobQueries,
    private readonly queue: JobQueue,
    private readonly log: Logger,
  ) {}

  /** Creates a job. A repetition with the same Idempotency-Key answers the job of the first request. */
  async create(request: JobRequest, caller?: { apiKeyId: string; idempotencyKey?: string }): Promise<JobDetails> {
    const { apiKeyId, idempotencyKey: key } = caller ?? {};
    const idempotency = apiKeyId && key !== undefined ? { apiKeyId, key } : undefined;
    const requestHash = hashRequest(request);
    if (idempotency) {
      const earlier = await this.earlierJob(idempotency, requestHash);
      if (earlier) return this.queries.get(earlier);
    }
    const { provider, method, seed, plan } = await this.planner.plan(request);
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
            method: method as unknown as Prisma.InputJsonObject,
            plan: plan as unknown as Prisma.InputJsonObject,
            plannedGenerations: plan.generations,
            deadline: toDeadline(request.deadline),
            providerPatienceSeconds: request.provider_patience_seconds,
          },
        });
        const account = { id, kind: 'job', providerId: provider.id } as const;
        await this.ledger.openAccount(tx, account, toQueryLimits(method.craft.budget));
        await recordEvents(tx, id, [{ level: 'info', type: 'message', message: `Created. ${describePlan(plan)}` }]);
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

/** Fields that were added later count only where they are set, so that a repetition is known over an upgrade. */
function hashRequest({ provider_patience_seconds: patience, ...given }: JobRequest): Uint8Array<ArrayBuffer> {
  const { type, craft } = given.method;
  const { strategy: asked, hyperparameters, ...rest } = craft;
  // Absent, it once meant the published algorithm.
  const strategy = asked === 'auto' ? 'paper' : `${asked} by name`;
  const { prompt_consistency_weight: own, ...soft } = fillHyperparameters(hyperparameters, 'soft');
  const filled = own === null ? soft : { ...soft, prompt_consistency_weight: own };
  const request = { ...given, method: { type, craft: { strategy, hyperparameters: filled, ...rest } } };
  const said = patience === DEFAULT_PATIENCE_SECONDS ? request : { ...request, provider_patience_seconds: patience };
  return new Uint8Array(createHash('sha256').update(JSON.stringify(said)).digest());
}
