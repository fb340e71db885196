import { z } from 'zod';
import { commonSettings } from './common.js';

const tensorName = z.string().min(1).max(128);

/** What is wrong with the object; by itself a union says only that neither of its members fits. */
function wrongTensor({ code, input, errors }: z.core.$ZodRawIssue): string | undefined {
  if (code !== 'invalid_union' || !Array.isArray(errors)) return undefined;
  const [, ofObject] = errors as z.core.$ZodIssue[][];
  const [{ path, message }] = ofObject;
  if (typeof input !== 'object' || path.length === 0) return "Write the tensor's name, or an object that describes it.";
  return `${path.join('.')}: ${message}`;
}

/** A tensor by its name alone, or with everything that is not as usual. */
function tensor<Shape extends z.ZodRawShape>(name: string, usual: string, shape: Shape) {
  return z
    .union([tensorName, z.strictObject({ name: tensorName.default(name), ...shape })], { error: wrongTensor })
    .default(name)
    .describe(usual);
}

const axes = <const Axis extends string>(...usual: Axis[]) =>
  z
    .array(z.enum(usual))
    .min(1)
    .max(usual.length)
    .refine((list) => new Set(list).size === list.length, { error: 'Name each axis once.' })
    .default([...usual])
    .describe(`The order of its axes. An axis that is left out has size 1. Usual: ${usual.join(', ')}.`);

const pixelScale = z.array(z.number()).length(3);

export const openInferenceSettings = z
  .strictObject({
    ...commonSettings,
    binary: z
      .boolean()
      .default(true)
      .describe(
        'Whether tensors travel in binary. false: as JSON, for servers such as MLServer that know nothing else.',
      ),
    tensors: z
      .strictObject({
        images: tensor('images', 'Input, BYTES [N]: encoded images; or pixels.', {
          datatype: z.enum(['BYTES', 'FP32', 'UINT8']).default('BYTES'),
          layout: z.enum(['NCHW', 'NHWC']).default('NCHW').describe('Of pixels.'),
          width: z.int().min(1).max(4096).optional().describe('Of pixels.'),
          height: z.int().min(1).max(4096).optional().describe('Of pixels.'),
          mean: pixelScale.default([0, 0, 0]).describe('Of FP32 pixels, which run from 0 to 1 before.'),
          std: pixelScale.default([1, 1, 1]),
        }),
        class_names: tensor('class_names', 'Input, BYTES [C].', {}),
        context: tensor('context', 'Input, FP32 [P, m, d]: context tokens.', {
          axes: axes('prompts', 'tokens', 'width'),
        }),
        template: tensor('template', 'Input, BYTES [P]: text templates with {} for the class name.', {}),
        logits: tensor('logits', 'Output, FP32 [P, N, C].', {
          datatype: z.enum(['FP32', 'FP16']).default('FP32'),
          axes: axes('prompts', 'images', 'classes'),
        }),
      })
      .prefault({})
      .describe('The tensors of the model: a name, or an object with what is not as usual.'),
    soft_prompt: z
      .strictObject({
        context_tokens: z.int().min(1).max(64),
        context_width: z.int().min(1).max(8192),
        initial_context: z.base64().optional().describe('Starting prompt [m, d], little-endian float32 in base64.'),
      })
      .optional()
      .describe('Only for models whose metadata does not state it.'),
    returns: z
      .enum(['logits', 'probabilities', 'log_probabilities'])
      .default('logits')
      .describe('What the output holds.'),
  })
  .refine(({ binary, tensors: { logits } }) => binary || typeof logits === 'string' || logits.datatype === 'FP32', {
    path: ['binary'],
    error: 'FP16 has no form in JSON. Set binary to true, or datatype of tensors.logits to FP32.',
  });

export type OpenInferenceSettings = z.output<typeof openInferenceSettings>;
