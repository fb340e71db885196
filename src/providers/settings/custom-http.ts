import { z } from 'zod';
import { isResultPath } from '../result-path.js';
import { commonSettings, headerName, httpPath, isReservedHeader } from './common.js';

const resultPath = z
  .string()
  .max(500)
  .refine(isResultPath, { error: 'Write a path such as $.results[*].score: names, [numbers] and [*].' });

export const customHttpSettings = z.strictObject({
  ...commonSettings,
  path: httpPath.default('/'),
  headers: z
    .record(
      headerName.refine((name) => !isReservedHeader(name) && !/^(authorization|cookie)$/i.test(name), {
        error: 'This header belongs to HTTP. What is secret goes into credentials.',
      }),
      z
        .string()
        .max(1000)
        .regex(/^[\x20-\x7e]*$/, 'Use printable ASCII characters.'),
    )
    .default({})
    .describe('Sent with every request. They are shown to whoever reads this record; secrets go into credentials.'),
  body: z
    .unknown()
    .refine((body) => body !== undefined, { error: 'Write the JSON body of a request.' })
    .describe(
      'The JSON body. Texts may hold {{model}}, {{template}}, {{image_base64}}, {{image_data_uri}}, {{image_sha256}}; a text that is nothing but {{labels}} (class names), {{texts}} (the template completed by each class), {{images_base64}}, {{images_data_uri}} becomes that list.',
    ),
  result: z.strictObject({
    kind: z.enum(['logits', 'probabilities', 'log_probabilities']),
    scores: resultPath.describe('Where the numbers are: N × C of them, image by image.'),
    labels: resultPath
      .optional()
      .describe(
        'Where the labels of the numbers are, where they come in an order of their own: what was sent as {{labels}} or {{texts}}.',
      ),
  }),
  template: z
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
    .describe('A probability of 0 counts as this; any other counts as it is.'),
  max_labels: z.int().min(2).max(65536).optional().describe('More classes are asked about in rounds.'),
});
