import { z } from 'zod';
import type { HeadWeights } from '../craft/head-weights.js';
import { HEAD_PARAMETERS, headShapes } from '../craft/head-weights.js';
import type { AdapterWeights } from '../craft/trainer.js';
import { InvalidRequestError } from '../errors.js';
import { readSafetensors, SafetensorsError, writeSafetensors } from '../formats/safetensors.js';
import { findJsonFault } from '../storable-json.js';

/**
 * An adapter in one safetensors file: tensors `context` [m, d] and `head.w1` [C, h], `head.b1` [h], `head.w2` [h, C],
 * `head.b2` [C], and everything else that a prediction needs as metadata.
 */

const FORMAT = 'craft-adapter';
const VERSION = '1';
const DAMAGED = "The adapter's description in the file's metadata is damaged.";

export interface AdapterDescription {
  /** Class names in the order of the logits. */
  classes: string[];
  provider: { name: string; protocol: string; remoteModel: string };
  hyperparameters: Record<string, unknown>;
  metrics: Record<string, unknown>;
}

const description = z.object({
  classes: z.array(z.string().min(1).max(200)).min(2).max(65536),
  provider: z.object({ name: z.string().max(64), protocol: z.string().max(64), remoteModel: z.string().max(128) }),
  hyperparameters: z.record(z.string(), z.unknown()),
  metrics: z.record(z.string(), z.unknown()),
});

export function encodeAdapter(weights: AdapterWeights, about: AdapterDescription): Uint8Array<ArrayBuffer> {
  const shapes = headShapes(weights.classCount, weights.head.b1.length);
  const { contextTokens, contextWidth, context, head } = weights;
  const bytes = writeSafetensors(
    {
      context: { dtype: 'F32', shape: [contextTokens, contextWidth], data: context },
      ...Object.fromEntries(
        HEAD_PARAMETERS.map((name) => [`head.${name}`, { dtype: 'F32', shape: shapes[name], data: head[name] }]),
      ),
    },
    { format: FORMAT, version: VERSION, adapter: JSON.stringify(about) },
  );
  return new Uint8Array(bytes.buffer as ArrayBuffer, bytes.byteOffset, bytes.byteLength);
}

/** @throws InvalidRequestError when the bytes are no adapter file, or one that does not fit together */
export function decodeAdapter(bytes: Uint8Array): { weights: AdapterWeights; about: AdapterDescription } {
  const refuse = (message: string, cause?: unknown): never => {
    throw new InvalidRequestError({
      code: 'invalid_adapter_file',
      param: 'file',
      message: `${message} Send a file from GET /v1/adapters/{id}/export unchanged.`,
      cause,
    });
  };
  try {
    const { tensors, metadata } = readSafetensors(bytes);
    if (metadata.format !== FORMAT) refuse('This safetensors file is not a craft-server adapter.');
    if (metadata.version !== VERSION)
      refuse(`This adapter file has version ${metadata.version}; only ${VERSION} is known.`);
    const stated: unknown = JSON.parse(metadata.adapter ?? '');
    if (findJsonFault(stated)) refuse(DAMAGED);
    const about = description.parse(stated);
    const float32 = (name: string, rank: number) => {
      const tensor = tensors.get(name);
      if (tensor?.dtype !== 'F32' || tensor.shape.length !== rank) {
        return refuse(`Tensor "${name}" is missing or is not float32 of rank ${rank}.`);
      }
      const data = tensor.data as Float32Array;
      if (!data.every(Number.isFinite)) return refuse(`Tensor "${name}" holds NaN or infinite values.`);
      return { data, shape: tensor.shape };
    };
    const context = float32('context', 2);
    const hidden = float32('head.b1', 1).shape[0];
    const classCount = about.classes.length;
    const shapes = headShapes(classCount, hidden);
    const head = Object.fromEntries(
      HEAD_PARAMETERS.map((parameter) => {
        const tensor = float32(`head.${parameter}`, shapes[parameter].length);
        if (tensor.shape.join() !== shapes[parameter].join()) {
          refuse(`Tensor "head.${parameter}" has shape [${tensor.shape}], not [${shapes[parameter]}].`);
        }
        return [parameter, tensor.data];
      }),
    ) as unknown as HeadWeights;
    const [contextTokens, contextWidth] = context.shape;
    return { weights: { context: context.data, contextTokens, contextWidth, head, classCount }, about };
  } catch (error) {
    if (error instanceof SafetensorsError) return refuse(`This is no valid safetensors file: ${error.message}.`, error);
    if (error instanceof z.ZodError || error instanceof SyntaxError) {
      return refuse(DAMAGED, error);
    }
    throw error;
  }
}
