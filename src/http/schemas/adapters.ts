import { z } from 'zod';

import type { AdapterInfo } from '../../adapters/adapter-store.js';
import type { PredictionCost } from '../../adapters/prediction-cost.js';
import { MOST_PREDICTION_VIEWS, type PredictionAnswer } from '../../adapters/predictor.js';
import type { Balance } from '../../ledger/accounts.js';
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

export const adapterSchema = z
  .object({
    id: z.string(),
    object: z.literal('adapter'),
    model: z.string().describe("The provider's name."),
    fine_tuning_job_id: z.string().nullable().describe('null for an imported adapter.'),
    classes: z.array(z.string()),
    prompt: z
      .string()
      .nullable()
      .describe('The learned prompt as text, with {} for the class name; null of soft prompts.'),
    hyperparameters: z.record(z.string(), z.unknown()),
    metrics: z.record(z.string(), z.unknown()),
    prediction: predictionCostSchema
      .nullable()
      .optional()
      .describe(
        'What a prediction asks about an image, and what that costs at the provider as it is now; null where the provider is gone or takes no such question. Lists leave it out.',
      ),
    usage: balanceSchema.describe('Spent by predictions with this adapter.'),
    created_at: unixSeconds,
  })
  .meta({ id: 'Adapter' });

export const adapterListSchema = listOf(adapterSchema);

export const deletedAdapterSchema = z.object({
  id: z.string(),
  object: z.literal('adapter'),
  deleted: z.literal(true),
});

const MAX_IMAGES = 256;

const images = z
  .array(z.string().min(1))
  .min(1)
  .max(MAX_IMAGES)
  .describe('Images as data URIs (data:image/png;base64,…): PNG, JPEG, WebP or GIF.');
/** More than a data set has classes. */
export const MOST_TOP_K = 65536;
export const DEFAULT_TOP_K = 3;

const topK = z
  .int()
  .min(1)
  .max(MOST_TOP_K)
  .default(DEFAULT_TOP_K)
  .describe('How many labels to answer for each image.');

export const MAX_PREDICT_IMAGES = MAX_IMAGES;

const predictionViews = z
  .int()
  .min(1)
  .max(MOST_PREDICTION_VIEWS)
  .optional()
  .describe(
    'Views of each image that the prediction averages over: 2 are the image and its mirror image. Each costs as many image queries as the job of the adapter said. 1 where it is left out.',
  );

/** All that a prediction is told beside its images. */
export const predictOptions = {
  top_k: topK,
  black_box: z.boolean().default(false).describe('Also answer what the black box said before the refinement head.'),
  views: predictionViews,
};

export const predictBodySchema = z.strictObject({ images, ...predictOptions });

export const zeroShotBodySchema = z.strictObject({
  images,
  labels: z
    .array(z.string().trim().min(1).max(200))
    .min(2)
    .max(4096)
    .refine((labels) => new Set(labels).size === labels.length, { error: 'Name each label once.' })
    .meta({ uniqueItems: true }),
  template: z
    .string()
    .max(500)
    .refine((template) => template.split('{}').length === 2, { error: 'Put {} exactly once, for the class name.' })
    .optional()
    .describe("Text with {} once, for the class name; the provider's own where left out."),
  top_k: topK,
});

const labelScores = z.array(z.object({ label: z.string(), score: z.number().describe('Probability.') }));

export const predictionSchema = z
  .object({
    object: z.literal('list'),
    model: z.string(),
    data: z
      .array(z.object({ predictions: labelScores, black_box_predictions: labelScores.optional() }))
      .describe('In the order of the images; labels best first.'),
    usage: usageSchema,
  })
  .meta({ id: 'Prediction' });

/** An imported adapter's metrics are whatever its file says. */
function promptOf({ metrics }: AdapterInfo): string | null {
  const { prompt } = metrics as { prompt?: unknown };
  return typeof prompt === 'string' ? prompt : null;
}

export function toAdapter(
  info: AdapterInfo,
  balance: Balance,
  cost?: PredictionCost | null,
): z.output<typeof adapterSchema> {
  return {
    id: info.id,
    object: 'adapter',
    model: info.providerName,
    fine_tuning_job_id: info.jobId,
    classes: info.classes as string[],
    prompt: promptOf(info),
    hyperparameters: info.hyperparameters as Record<string, unknown>,
    metrics: info.metrics as Record<string, unknown>,
    ...(cost === undefined ? {} : { prediction: cost && { transforms: cost.transforms, usage: toUsage(cost.usage) } }),
    usage: toBalance(balance),
    created_at: toUnixSeconds(info.createdAt),
  };
}

export function toPrediction(model: string, answer: PredictionAnswer): z.output<typeof predictionSchema> {
  return {
    object: 'list',
    model,
    data: answer.data.map(({ predictions, blackBoxPredictions }) => ({
      predictions,
      ...(blackBoxPredictions ? { black_box_predictions: blackBoxPredictions } : {}),
    })),
    usage: toUsage(answer.usage),
  };
}
