import { z } from 'zod';
import { imageFromBase64 } from '../base64-image.js';
import type { ScoreRequest } from '../emoji-clip.js';
import { LIMITS } from '../infer-request.js';
import { modelText, parseInput } from '../parse-input.js';

const labels = z.preprocess(
  (value) => (typeof value === 'string' ? value.split(',').map((label) => label.trim()) : value),
  z.array(modelText, 'must be a list of texts, or one text with commas').min(1).max(LIMITS.max_classes_per_request),
);

const schema = z.object({
  inputs: z.union([z.string(), z.object({ image: z.string() })], 'must be an image in base64, or {"image": base64}'),
  parameters: z.object({
    candidate_labels: labels,
    hypothesis_template: modelText
      .refine((template) => template.split('{}').length === 2, 'needs exactly one {} where the label goes')
      .optional(),
  }),
});

/** Reads a request for zero-shot image classification: one image under one prompt. */
export function readZeroShotRequest(body: unknown, defaultTemplate: string): ScoreRequest {
  const { inputs, parameters } = parseInput(schema, body);
  const image =
    typeof inputs === 'string' ? imageFromBase64(inputs, 'inputs') : imageFromBase64(inputs.image, 'inputs.image');
  const template = parameters.hypothesis_template ?? defaultTemplate;
  return { images: [image], classNames: parameters.candidate_labels, prompts: [{ template }] };
}
