import { z } from 'zod';
import { craftHyperparametersSchema } from '../../craft/hyperparameters.js';
import type { JobEvent } from '../../db/client.js';
import { eventId } from '../../jobs/event-id.js';
import type { JobMetrics } from '../../jobs/generation-metrics.js';
import type { JobDetails } from '../../jobs/job-queries.js';
import { type JobMethod, methodSchema, STRATEGIES } from '../../jobs/job-request.js';
import type { TrainingPlan } from '../../jobs/plan.js';
import { JOB_STATUSES, type JobStatus, PAUSE_REASONS, type PauseReason } from '../../jobs/state-machine.js';
import { STOP_REASONS, type StopReason } from '../../jobs/stop-reason.js';
import { BUDGET_PARAMETERS } from '../../ledger/accounts.js';
import { NOTHING } from '../../providers/amounts.js';
import {
  balanceSchema,
  listOf,
  predictionCostSchema,
  toBalance,
  toUnixSeconds,
  toUsage,
  unixSeconds,
  usageSchema,
} from './common.js';

const metricsSchema = z
  .object({
    generation: z.int(),
    best_fitness: z
      .number()
      .nullable()
      .describe('Smallest loss among the candidates, in nats; null where there are none.'),
    mean_fitness: z.number().nullable(),
    step_size: z
      .number()
      .nullable()
      .describe(
        'How far the search still reaches: σ of CMA-ES; of text prompts, the spread over words from 1 to 0; null of strategy economy.',
      ),
    centre_loss: z
      .number()
      .describe(
        'Loss of the centre of the search on the training images; of strategy economy, the loss of the head on images that were held out, by the last cross-validation.',
      ),
    head_loss: z
      .number()
      .describe(
        'Loss of the head on the images that it was fitted to; of strategy economy, of the head that train_accuracy is of.',
      ),
    held_out_accuracy: z
      .number()
      .nullable()
      .optional()
      .describe(
        '0 to 1, refined, on training images that were held out by the last cross-validation, which is made when the views have doubled; null of strategy paper.',
      ),
    train_accuracy: z
      .number()
      .describe(
        '0 to 1, refined. Of an adapter or checkpoint, by its own head; of another generation of strategy economy without validation images, by the head of the last cross-validation.',
      ),
    black_box_train_accuracy: z.number().describe('0 to 1, before the refinement head.'),
    validation_accuracy: z
      .number()
      .nullable()
      .describe('0 to 1, refined by the head as of this generation; null without validation images.'),
    validation_loss: z.number().nullable(),
    prompt: z
      .string()
      .nullable()
      .optional()
      .describe('The current prompt as text, with {} for the class name; null of soft prompts.'),
  })
  .meta({ id: 'GenerationMetrics' });

const planSchema = z
  .object({
    strategy: z.enum(STRATEGIES),
    strategy_reason: z.string().nullable().describe('Why it was picked.'),
    generations: z
      .int()
      .describe('Of strategy economy: image queries of each training image, one for each transform of each view.'),
    probe_labels: z.array(z.string()).describe('Labels that each query names after the classes, for the head alone.'),
    prediction: predictionCostSchema
      .nullable()
      .describe(
        "What a prediction asks about an image, and what that costs. An adapter of a job that ended before its first view was asked about in all these transforms, or of a generation before that which best_validation chose, asks about the first of them alone, those that were; the job's last event names them.",
      ),
    training_images: z.int().describe('Of strategy economy, without copies of an image.'),
    validation_images: z
      .int()
      .describe(
        'Of strategy economy 0 where the budget pays for the training images only, unless they choose the checkpoint.',
      ),
    classes: z.int(),
    setup: usageSchema.describe(
      'Beside all generations: image embeddings that nobody has paid for yet; of strategy economy, the validation images and, where the provider embeds, the texts.',
    ),
    per_generation: usageSchema.describe('At most: a text prompt that was scored before costs nothing.'),
    total: usageSchema.describe(
      'If no call has to be repeated. Of strategy paper with text prompts a job may spend more, up to its limits: what prompts that were scored before leave of them pays for generations beyond these.',
    ),
    text_embeddings: z
      .object({ per_generation: z.int(), total: z.int() })
      .nullable()
      .describe('Texts that are embedded in place of image queries; null where the provider does not embed.'),
    rounds: z
      .int()
      .describe(
        'Requests for each image and prompt, because the provider is asked about so many classes at once only.',
      ),
    decided_by: z
      .enum([...Object.values(BUDGET_PARAMETERS), 'views'])
      .describe(
        'The limit that decides the number of generations; views where the budget pays for more views than are asked about: than help with so many images, or than the job allows.',
      ),
    seconds_at_provider_limits: z
      .number()
      .nullable()
      .describe('If the provider’s requests per second are the bottleneck; null where it states no rate.'),
  })
  .meta({ id: 'Plan' });

export const jobSchema = z
  .object({
    id: z.string(),
    object: z.literal('fine_tuning.job'),
    model: z.string(),
    status: z.enum(JOB_STATUSES),
    created_at: unixSeconds,
    started_at: unixSeconds.nullable(),
    finished_at: unixSeconds.nullable(),
    estimated_finish: unixSeconds.nullable(),
    fine_tuned_model: z.string().nullable().describe('The adapter, once the job has succeeded.'),
    training_file: z.string(),
    validation_file: z.string().nullable(),
    suffix: z.string().nullable(),
    seed: z.int(),
    deadline: unixSeconds.nullable(),
    provider_patience_seconds: z.int(),
    metadata: z.record(z.string(), z.string()).nullable(),
    method: methodSchema,
    hyperparameters: craftHyperparametersSchema.describe('Those of the method.'),
    plan: planSchema.describe(
      'Made when the job was created, and anew with each change of its budget before its first query.',
    ),
    progress: z.object({
      generation: z.int(),
      generations: z.int(),
      fraction: z.number(),
    }),
    budget: balanceSchema,
    metrics: z.object({ current: metricsSchema.nullable(), best: metricsSchema.nullable() }),
    compute: z.string().nullable().describe('The backend that trains the head: `simd`, or one of TensorFlow.js.'),
    stop_reason: z
      .enum(STOP_REASONS)
      .nullable()
      .describe(
        'Why a job that succeeded ended before its plan: budget_exhausted, deadline, or plateau: more views no longer made the head better on images held out.',
      ),
    pause_reason: z.enum(PAUSE_REASONS).nullable().describe('Why a paused job is paused.'),
    pause_message: z.string().nullable().describe('The same in words, with what it takes to go on.'),
    error: z.object({ code: z.string(), message: z.string(), param: z.string().nullable() }).nullable(),
    organization_id: z.string(),
    result_files: z.array(z.string()),
    trained_tokens: z.null(),
  })
  .meta({ id: 'FineTuningJob' });

export const jobListSchema = listOf(jobSchema);

export const dryRunSchema = z
  .object({
    object: z.literal('fine_tuning.plan'),
    model: z.string(),
    seed: z.int(),
    method: methodSchema,
    plan: planSchema,
  })
  .meta({ id: 'DryRun' });

export const jobEventSchema = z
  .object({
    id: z.string(),
    object: z.literal('fine_tuning.job.event'),
    created_at: unixSeconds,
    level: z.enum(['info', 'warn', 'error']),
    type: z.enum(['message', 'metrics']),
    message: z.string(),
    data: z
      .looseObject({ step: z.int().optional(), ...metricsSchema.partial().shape })
      .nullable()
      .describe('Of an event of type metrics, those of the generation `step`.'),
  })
  .meta({ id: 'JobEvent' });

export const jobEventListSchema = listOf(jobEventSchema);

export const checkpointSchema = z
  .object({
    id: z.string(),
    object: z.literal('fine_tuning.job.checkpoint'),
    created_at: unixSeconds,
    fine_tuning_job_id: z.string(),
    fine_tuned_model_checkpoint: z.string(),
    step_number: z.int().describe('The generation.'),
    metrics: z.looseObject({ step: z.int(), ...metricsSchema.shape }),
  })
  .meta({ id: 'Checkpoint' });

export const checkpointListSchema = listOf(checkpointSchema);

export function toPlan(plan: TrainingPlan): z.output<typeof planSchema> {
  return {
    strategy: plan.strategy ?? 'paper',
    strategy_reason: plan.strategyReason ?? null,
    generations: plan.generations,
    probe_labels: plan.probes ?? [],
    prediction: plan.perPrediction
      ? { transforms: plan.transforms ?? ['identity'], usage: toUsage(plan.perPrediction) }
      : null,
    training_images: plan.trainingImages,
    validation_images: plan.validationImages,
    classes: plan.classes,
    setup: toUsage(plan.setup ?? NOTHING),
    per_generation: toUsage(plan.perGeneration),
    total: toUsage(plan.total),
    text_embeddings: toTextEmbeddings(plan),
    rounds: plan.rounds ?? 1,
    decided_by: plan.decidedBy === 'views' ? plan.decidedBy : BUDGET_PARAMETERS[plan.decidedBy],
    seconds_at_provider_limits: plan.secondsAtProviderLimits,
  };
}

function toTextEmbeddings({ textEmbeddingsPerGeneration: count, textEmbeddings = 0, generations }: TrainingPlan) {
  return count === undefined ? null : { per_generation: count, total: textEmbeddings + count * generations };
}

export function toJob(details: JobDetails): z.output<typeof jobSchema> {
  const { job } = details;
  const method = job.method as unknown as JobMethod;
  return {
    id: job.id,
    object: 'fine_tuning.job',
    model: details.model,
    status: job.status as JobStatus,
    created_at: toUnixSeconds(job.createdAt),
    started_at: job.startedAt && toUnixSeconds(job.startedAt),
    finished_at: job.finishedAt && toUnixSeconds(job.finishedAt),
    estimated_finish: estimatedFinish(details),
    fine_tuned_model: details.fineTunedModel,
    training_file: job.trainingFileId,
    validation_file: job.validationFileId,
    suffix: job.suffix,
    seed: Number(job.seed),
    deadline: job.deadline && toUnixSeconds(job.deadline),
    provider_patience_seconds: job.providerPatienceSeconds,
    metadata: job.metadata as Record<string, string> | null,
    method,
    hyperparameters: method.craft.hyperparameters,
    plan: toPlan(job.plan as unknown as TrainingPlan),
    progress: {
      generation: job.generation,
      generations: job.plannedGenerations,
      fraction: job.status === 'succeeded' ? 1 : Math.min(1, job.generation / Math.max(1, job.plannedGenerations)),
    },
    budget: toBalance(details.balance),
    metrics: {
      current: job.currentMetrics as JobMetrics | null,
      best: job.bestMetrics as JobMetrics | null,
    },
    compute: job.compute,
    stop_reason: job.stopReason as StopReason | null,
    pause_reason: job.pauseReason as PauseReason | null,
    pause_message: job.pauseMessage,
    error:
      job.errorCode === null ? null : { code: job.errorCode, message: job.errorMessage ?? '', param: job.errorParam },
    organization_id: 'craft-server',
    result_files: [],
    trained_tokens: null,
  };
}

/** By the mean pace since the job started; null before its first generation and after its end. */
function estimatedFinish({ job }: JobDetails): number | null {
  if (job.status !== 'running' || !job.startedAt || job.generation === 0) return null;
  const elapsed = Date.now() - job.startedAt.getTime();
  return Math.ceil((job.startedAt.getTime() + (elapsed * job.plannedGenerations) / job.generation) / 1000);
}

export function toJobEvent(event: JobEvent): z.output<typeof jobEventSchema> {
  return {
    id: eventId(event.id),
    object: 'fine_tuning.job.event',
    created_at: toUnixSeconds(event.createdAt),
    level: event.level as 'info' | 'warn' | 'error',
    type: event.type as 'message' | 'metrics',
    message: event.message,
    data: event.data as Record<string, unknown> | null,
  };
}

export function toCheckpoint(
  row: { id: string; jobId: string; generation: number; metrics: unknown; createdAt: Date },
  fineTunedModel: string | null,
): z.output<typeof checkpointSchema> {
  return {
    id: row.id,
    object: 'fine_tuning.job.checkpoint',
    created_at: toUnixSeconds(row.createdAt),
    fine_tuning_job_id: row.jobId,
    fine_tuned_model_checkpoint: `${fineTunedModel ?? row.jobId}:ckpt-step-${row.generation}`,
    step_number: row.generation,
    metrics: { step: row.generation, ...(row.metrics as JobMetrics) },
  };
}
