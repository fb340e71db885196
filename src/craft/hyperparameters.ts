import { z } from 'zod';

/**
 * Every constant of the method, as the HTTP API takes it. The defaults are the settings most data sets use in the
 * reference configurations (Wang et al., ICML 2024, arXiv 2402.04050).
 */
export const craftHyperparametersSchema = z
  .strictObject({
    intrinsic_dimension: z
      .int()
      .min(1)
      .max(2000)
      .default(512)
      .describe('Dimension n of the space that CMA-ES searches. A fixed random projection maps it to context tokens.'),
    population_size: z
      .int()
      .min(4)
      .max(1000)
      .default(40)
      .describe('Candidate prompts per generation (λ). Each costs one prompt evaluation on the training images.'),
    initial_step_size: z
      .number()
      .positive()
      .max(1e6)
      .default(1)
      .describe('Initial step size σ0 of CMA-ES: the standard deviation of every search coordinate at the start.'),
    projection_std: z
      .number()
      .positive()
      .max(1e6)
      .default(0.2)
      .describe('Standard deviation σ_A of the entries of the random projection from the search space to the tokens.'),
    bound: z
      .number()
      .min(0)
      .max(1e9)
      .nullable()
      .default(5)
      .describe('Every search coordinate stays within [-bound, bound]. 0 or null means no bounds.'),
    consistency_weight: z
      .number()
      .min(0)
      .max(1e6)
      .default(0.1)
      .describe('Weight w of the prediction-consistent (KL) terms in the loss of the prompt and in that of the head.'),
    prompt_consistency_weight: z
      .number()
      .min(0)
      .max(1e6)
      .nullable()
      .default(null)
      .describe('Weight of the KL term in the loss of the prompt alone; null: as consistency_weight.'),
    consistency_switch: z
      .number()
      .min(1)
      .max(1e6)
      .default(4)
      .describe(
        'The KL term of the head loss is switched off once more than 1/consistency_switch of the planned candidate ' +
          'evaluations are spent. 1 means that it is never switched off.',
      ),
    head_hidden_width: z
      .int()
      .min(1)
      .max(8192)
      .default(256)
      .describe('Width h of the hidden layer of the refinement head.'),
    head_learning_rate: z.number().positive().max(10).default(1e-3).describe('Learning rate of Adam for the head.'),
    adam_beta1: z.number().min(0).lt(1).default(0.9).describe("Decay of Adam's first moment."),
    adam_beta2: z.number().min(0).lt(1).default(0.999).describe("Decay of Adam's second moment."),
    adam_epsilon: z.number().positive().max(1).default(1e-8).describe("Term that keeps Adam's denominator above 0."),
    batch_size: z.int().min(1).max(65536).default(256).describe('Images per gradient step of the refinement head.'),
    head_epochs_per_generation: z
      .int()
      .min(1)
      .max(1000)
      .default(1)
      .describe('Passes over the training images in each generation while the head trains. They cost no queries.'),
  })
  .describe('Hyperparameters of CraFT. Every one is optional.');

/** Checked hyperparameters with every default filled in. */
export type CraftHyperparameters = z.output<typeof craftHyperparametersSchema>;

/** What a caller may leave out. */
export type CraftHyperparametersInput = z.input<typeof craftHyperparametersSchema>;

/**
 * The defaults of text prompts, where they are others: chosen on training images held out in turn. Words move a prompt in
 * steps, so that a pull towards the head only keeps it where it is; and there are few generations for the head to learn in.
 * `npm run bench:text-search` shows what they give on test images.
 */
const TEXT_DEFAULTS: CraftHyperparametersInput = {
  prompt_consistency_weight: 0,
  consistency_weight: 0.5,
  consistency_switch: 1,
  head_epochs_per_generation: 32,
};

type Shape = typeof craftHyperparametersSchema.shape;

/** As callers send them: what is left out is filled in once it is known what prompts are made of. */
export const craftHyperparametersInputSchema = z
  .strictObject(
    Object.fromEntries(
      Object.entries(craftHyperparametersSchema.shape).map(([name, field]) => {
        const text = TEXT_DEFAULTS[name as keyof CraftHyperparametersInput];
        const description = `${field.description}${text === undefined ? '' : ` Default for text prompts: ${text}.`}`;
        // A default of the documentation only.
        return [name, field.unwrap().optional().meta({ description, default: field.def.defaultValue })];
      }),
    ) as { [Name in keyof Shape]: z.ZodOptional<ReturnType<Shape[Name]['unwrap']>> },
  )
  .describe('Hyperparameters of CraFT. Every one is optional.');

/** What is given, and for the rest the defaults of the prompt space. @throws ZodError when a value is out of its range */
export function fillHyperparameters(given: CraftHyperparametersInput, space: 'soft' | 'text'): CraftHyperparameters {
  const said = Object.fromEntries(Object.entries(given).filter(([, value]) => value !== undefined));
  return craftHyperparametersSchema.parse({ ...(space === 'text' ? TEXT_DEFAULTS : {}), ...said });
}

/** The weight w of the prompt's loss. */
export function promptWeightOf({ prompt_consistency_weight: own, consistency_weight }: CraftHyperparameters): number {
  // Absent in jobs that were created before it had a weight of its own.
  return own ?? consistency_weight;
}

/** Half the width of the search box, or null where the search is unbounded. */
export function boundOf(hyperparameters: CraftHyperparameters): number | null {
  return hyperparameters.bound === null || hyperparameters.bound === 0 ? null : hyperparameters.bound;
}
