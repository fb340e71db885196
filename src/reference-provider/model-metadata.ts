import type { EmojiClip } from './emoji-clip.js';
import { IDEMPOTENCY_HEADER } from './idempotency-key.js';
import { LIMITS, OUTPUT_NAME } from './infer-request.js';

export const MODEL_VERSION = '1';

export const SERVER_METADATA = {
  name: 'craft-reference-provider',
  version: '1.0.0',
  extensions: ['binary_tensor_data'],
};

/**
 * What `GET /v2/models/<name>` answers. `parameters` goes beyond the protocol: it tells a client which prompts the
 * model takes, so that it can be tuned without knowing it, and whether a retry may name the attempt that it repeats.
 */
export function modelMetadata(model: EmojiClip, maxRequestBytes: number, idempotencyWindowSeconds?: number) {
  const { config } = model;
  const { context_positions, width, default_template } = config.text;
  const initial = model.initialContext();
  return {
    name: config.name,
    versions: [MODEL_VERSION],
    platform: 'onnxruntime_onnx',
    inputs: [
      { name: 'images', datatype: 'BYTES', shape: [-1] },
      { name: 'class_names', datatype: 'BYTES', shape: [-1] },
      { name: 'context', datatype: 'FP32', shape: [-1, context_positions.length, width] },
      { name: 'template', datatype: 'BYTES', shape: [-1] },
    ],
    outputs: [{ name: OUTPUT_NAME, datatype: 'FP32', shape: [-1, -1, -1] }],
    parameters: {
      prompt: {
        space: 'soft',
        context_tokens: context_positions.length,
        context_width: width,
        initial_context: Buffer.from(initial.buffer, initial.byteOffset, initial.byteLength).toString('base64'),
        template: default_template,
      },
      logit_scale: config.logit_scale,
      image: { size: config.image.size },
      image_references: 'sha256',
      ...LIMITS,
      max_request_bytes: maxRequestBytes,
      ...(idempotencyWindowSeconds === undefined
        ? {}
        : { idempotency_header: IDEMPOTENCY_HEADER, idempotency_window_s: idempotencyWindowSeconds }),
    },
  };
}
