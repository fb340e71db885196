import { z } from 'zod';
import { usefulViews } from '../craft/economy/head-grid.js';
import { MOST_PROBES } from '../craft/economy/probe-labels.js';
import { craftHyperparametersInputSchema, craftHyperparametersSchema } from '../craft/hyperparameters.js';
import type { QueryLimits } from '../ledger/accounts.js';
import { toMicroUsd } from '../providers/query-limits.js';
import { PREDICTION_QUERIES } from '../views/transforms.js';

/** How a job can be trained; `docs/architecture.md` says which places tell them apart. */
export const STRATEGIES = ['paper', 'economy'] as const;
export type Strategy = (typeof STRATEGIES)[number];

/** What a caller asks for when creating a job. The HTTP API publishes these schemas. */

/** Views of each training image, by default and at most. */
export const DEFAULT_VIEWS = 32;
const MOST_VIEWS = 64;
const VIEWS_THAT_HELP = [22, 88, 176, 352].map((images) => `${usefulViews(images)} of ${images} images`).join(', ');

const MAX_COUNT = Number.MAX_SAFE_INTEGER;

export const budgetLimits = {
  max_prompt_evaluations: z.int().min(1).max(MAX_COUNT).optional().describe('One prompt scored on one image set.'),
  max_image_queries: z.int().min(1).max(MAX_COUNT).optional().describe('One image scored under one prompt.'),
  max_requests: z.int().min(1).max(MAX_COUNT).optional().describe('HTTP requests to the provider.'),
  max_cost_usd: z.number().positive().max(1e9).optional().describe("By the prices in the provider's record."),
};

export const budgetSchema = z
  .strictObject(budgetLimits)
  .refine((budget) => Object.values(budget).some((limit) => limit !== undefined), {
    error: 'Set at least one of max_prompt_evaluations, max_image_queries, max_requests, max_cost_usd.',
  })
  .meta({ minProperties: 1 })
  .describe('The job never spends more than any of these; at least one is set.');

const template = z
  .string()
  .min(2)
  .max(300)
  .refine((text) => text.split('{}').length === 2 && text.split('{description}').length <= 2, {
    error: 'Put {} once where the class name goes, and {description} at most once.',
  })
  .describe('Text with {} once, where the class name goes, and {description} at most once.');

/** What of a method has no default that depends on the provider. */
const craftFields = {
  strategy: z
    .enum(['auto', ...STRATEGIES])
    .default('auto')
    .describe(
      'paper: the published algorithm exactly, for thousands of prompt evaluations. economy: a cross-validated head on probe labels and views of the images, from one image query per training image on. auto: economy, unless something is set that only the published algorithm uses; the plan says what was picked and why.',
    ),
  budget: budgetSchema,
  prompt_space: z
    .enum(['soft', 'text'])
    .optional()
    .describe('What prompts are made of: context tokens or words. Left out: soft where the provider takes it.'),
  prompts: z
    .strictObject({
      templates: z.array(template).max(1000).default([]).describe('Your own, beside those that are shipped.'),
      start: template.optional().describe("Where the search starts; the provider's own template where it is left out."),
      words: z
        .array(
          z
            .string()
            .min(1)
            .max(60)
            .regex(/^[^{}]+$/, 'Leave out braces.'),
        )
        .max(2000)
        .default([])
        .describe('Your own context words, such as the domain of the images.'),
    })
    .optional()
    .describe('Of text prompts: what the search may use.'),
  probe_labels: z
    .int()
    .min(0)
    .max(MOST_PROBES)
    .optional()
    .describe(
      'economy: labels beside the classes that each query names, whose scores the head reads. Left out: as many as pay at this provider.',
    ),
  views: z
    .int()
    .min(1)
    .max(MOST_VIEWS)
    .optional()
    .describe(
      `economy: views of each training image at most, each an image query. The more images, the fewer views help, and no more are asked about: ${VIEWS_THAT_HELP}. Left out: what the budget pays for, up to ${DEFAULT_VIEWS}, while they make the head better.`,
    ),
  prediction_queries: z
    .literal(PREDICTION_QUERIES)
    .optional()
    .describe(
      'economy: image queries that one prediction costs. More than 1 ask about transforms of the image, too (the plan names them), and so does the training: each view of the images then costs as many queries. 1 where it is left out.',
    ),
  validation_fraction: z
    .number()
    .gt(0)
    .max(0.5)
    .optional()
    .describe('Sets this share of each class aside for validation. Only without a validation split or file.'),
  shots: z
    .int()
    .min(1)
    .max(MAX_COUNT)
    .optional()
    .describe(
      'Trains on this many images of each class, chosen with the seed after validation images are set aside; a class that has fewer gives all it has.',
    ),
  checkpoint_selection: z
    .enum(['last', 'best_validation'])
    .default('last')
    .describe('Which generation becomes the adapter.'),
};

const methodInputSchema = z.strictObject({
  type: z.literal('craft'),
  craft: z.strictObject({ ...craftFields, hyperparameters: craftHyperparametersInputSchema.default({}) }),
});

/** With everything filled in that the caller left to the provider. */
export const methodSchema = z.strictObject({
  type: z.literal('craft'),
  craft: z.strictObject({ ...craftFields, hyperparameters: craftHyperparametersSchema.prefault({}) }),
});

export type JobMethod = z.output<typeof methodSchema>;

/** Of a job that was created before there was a choice, prompts are soft. */
export function promptSpaceOf({ craft }: JobMethod): 'soft' | 'text' {
  return craft.prompt_space ?? 'soft';
}

export const DEFAULT_PATIENCE_SECONDS = 300;

/** Unix seconds; what is later than the year 9999 was meant as milliseconds. */
export const deadlineSchema = z
  .int()
  .positive()
  .max(253_402_300_799, 'Give the deadline in seconds, not milliseconds.');

export const jobRequestSchema = z.strictObject({
  model: z.string().min(1).max(64).describe("The provider's name."),
  training_file: z.string().min(1).max(64),
  validation_file: z.string().min(1).max(64).nullish(),
  suffix: z
    .string()
    .regex(/^[A-Za-z0-9_-]{1,64}$/, 'Use 1 to 64 letters, digits, dashes or underscores.')
    .nullish(),
  seed: z.int().min(0).max(2147483647).nullish().describe('Fixes everything that is random. Drawn when not given.'),
  deadline: deadlineSchema
    .nullish()
    .describe('Unix time in seconds after which no call is sent: the job ends with what it has by then.'),
  provider_patience_seconds: z
    .int()
    .min(1)
    .max(604_800)
    .default(DEFAULT_PATIENCE_SECONDS)
    .describe(
      'How long the provider may fail before the job is paused. It resumes by itself once the provider answers.',
    ),
  metadata: z
    .record(z.string().max(64), z.string().max(512))
    .refine((metadata) => Object.keys(metadata).length <= 16, { error: 'At most 16 entries.' })
    .meta({ maxProperties: 16 })
    .nullish(),
  method: methodInputSchema,
});

export type JobRequest = z.output<typeof jobRequestSchema>;

/** The budget in the ledger's units; a cost limit is rounded down to whole micro-dollars. */
export function toQueryLimits(budget: z.output<typeof budgetSchema>): QueryLimits {
  return {
    promptEvaluations: budget.max_prompt_evaluations ?? null,
    imageQueries: budget.max_image_queries ?? null,
    requests: budget.max_requests ?? null,
    costMicroUsd: budget.max_cost_usd === undefined ? null : toMicroUsd(budget.max_cost_usd),
  };
}

/** The budget that has these limits. */
export function toBudget(limits: QueryLimits): z.output<typeof budgetSchema> {
  const { promptEvaluations, imageQueries, requests, costMicroUsd } = limits;
  return {
    max_prompt_evaluations: promptEvaluations ?? undefined,
    max_image_queries: imageQueries ?? undefined,
    max_requests: requests ?? undefined,
    max_cost_usd: costMicroUsd === null ? undefined : toUsd(costMicroUsd),
  };
}

/** Dollars that are rounded down to so many micro-dollars; more than zero, as a budget is. */
function toUsd(microUsd: number): number {
  const usd = microUsd / 1e6;
  return usd > 0 && toMicroUsd(usd) === microUsd ? usd : (microUsd + 0.25) / 1e6;
}

export function toDeadline(seconds: number | null | undefined): Date | null {
  return seconds === null || seconds === undefined ? null : new Date(seconds * 1000);
}
