import { z } from 'zod';
import { commonSettings } from './common.js';

export const huggingFaceSettings = z.strictObject({
  ...commonSettings,
  hypothesis_template: z
    .string()
    .max(500)
    .regex(/\{\}/, 'Put {} where the class name goes.')
    .default('a photo of a {}.')
    .describe('The template of zero-shot answers; training learns another one.'),
  score_floor: z
    .number()
    .gt(0)
    .max(0.01)
    .default(1e-9)
    .describe(
      'A score of 0 counts as this: a label that is shown as 0 is not impossible. Any other score counts as it is.',
    ),
  max_labels: z.int().min(2).max(65536).optional().describe('More classes are asked about in rounds.'),
});
