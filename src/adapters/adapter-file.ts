import { z } from 'zod';
import type { HeadWeights } from '../craft/head-weights.js';
import { HEAD_PARAMETERS, headShapes } from '../craft/head-weights.js';
import type { AdapterWeights } from '../craft/trainer.js';
import { InvalidRequestError } from '../errors.js';
import { readSafetensors, SafetensorsError, type SafetensorsTensor, writeSafetensors } from '../formats/safetensors.js';
import { findJsonFault } from '../storable-json.js';

/**
 * An adapter in one safetensors file: tensors `head.w1` [C, h], `head.b1` [h], `head.w2` [h, C], `head.b2` [C], and
 * everything else that a prediction needs as metadata. Version 1 has a soft prompt, `context` [m, d]. Version 2 has a text
 * prompt in its metadata and, where the provider embeds, `text_embeddings` [C, D].
 */

const FORMAT = 'craft-adapter';
const VERSIONS = { soft: '1', text: '2' };
const DAMAGED = "The adapter's description in the file's metadata is damaged.";

export interface AdapterDescription {
  /** Class names in the order of the logits. */
  classes: string[];
  /** Of each class, where the prompt may use them. */
  descriptions?: (string | null)[];
  /** In which the text embeddings are. */
  textSpace?: string;
  provider: { name: string; protocol: string; remoteModel: string };
  hyperparameters: Record<string, unknown>;
  metrics: Record<string, unknown>;
}

const description = z.object({
  classes: z.array(z.string().min(1).max(200)).min(2).max(65536),
  descriptions: z.array(z.string().max(1000).nullable()).optional(),
  textSpace: z.string().max(64).optional(),
  template: z
    .string()
    .max(4000)
    .refine((text) => text.split('{}').length === 2)
    .optional(),
  provider: z.object({ name: z.string().max(64), protocol: z.string().max(64), remoteModel: z.string().max(256) }),
  hyperparameters: z.record(z.string(), z.unknown()),
  metrics: z.record(z.string(), z.unknown()),
});

/** What a file holds. */
export interface AdapterFile {
  weights: AdapterWeights;
  about: AdapterDescription;
  /** [C, D] of the learned prompt, where the provider embeds. */
  textEmbeddings?: Float32Array;
}

export function encodeAdapter(
  weights: AdapterWeights,
  about: AdapterDescription,
  textEmbeddings?: Float32Array,
): Uint8Array<ArrayBuffer> {
  const { prompt, head, classCount } = weights;
  const shapes = headShapes(classCount, head.b1.length);
  const tensors: Record<string, SafetensorsTensor> = {};
  if (prompt.space === 'soft') {
    tensors.context = { dtype: 'F32', shape: [prompt.contextTokens, prompt.contextWidth], data: prompt.context };
  }
  for (const name of HEAD_PARAMETERS) tensors[`head.${name}`] = { dtype: 'F32', shape: shapes[name], data: head[name] };
  if (textEmbeddings) {
    const shape = [classCount, textEmbeddings.length / classCount];
    tensors.text_embeddings = { dtype: 'F32', shape, data: textEmbeddings };
  }
  const said = prompt.space === 'text' ? { ...about, template: prompt.template } : about;
  const bytes = writeSafetensors(tensors, {
    format: FORMAT,
    version: VERSIONS[prompt.space],
    adapter: JSON.stringify(said),
  });
  return new Uint8Array(bytes.buffer as ArrayBuffer, bytes.byteOffset, bytes.byteLength);
}

/** @throws InvalidRequestError when the bytes are no adapter file, or one that does not fit together */
export function decodeAdapter(bytes: Uint8Array): AdapterFile {
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
    if (!Object.values(VERSIONS).includes(metadata.version)) {
      refuse(`This adapter file has version ${metadata.version}; ${Object.values(VERSIONS).join(' and ')} are known.`);
    }
    const stated: unknown = JSON.parse(metadata.adapter ?? '');
    if (findJsonFault(stated)) refuse(DAMAGED);
    const { template, ...about } = description.parse(stated);
    if (about.descriptions && about.descriptions.length !== about.classes.length) refuse(DAMAGED);
    const float32 = (name: string, rank: number) => {
      const tensor = tensors.get(name);
      if (tensor?.dtype !== 'F32' || tensor.shape.length !== rank) {
        return refuse(`Tensor "${name}" is missing or is not float32 of rank ${rank}.`);
      }
      const data = tensor.data as Float32Array;
      if (!data.every(Number.isFinite)) return refuse(`Tensor "${name}" holds NaN or infinite values.`);
      return { data, shape: tensor.shape };
    };
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
    if (metadata.version === VERSIONS.soft) {
      const { data: context, shape } = float32('context', 2);
      const [contextTokens, contextWidth] = shape;
      return { weights: { prompt: { space: 'soft', context, contextTokens, contextWidth }, head, classCount }, about };
    }
    if (template === undefined) return refuse(DAMAGED);
    const embedded = tensors.has('text_embeddings') ? float32('text_embeddings', 2) : undefined;
    if (embedded && embedded.shape[0] !== classCount) refuse(DAMAGED);
    return {
      weights: { prompt: { space: 'text', template }, head, classCount },
      about,
      ...(embedded ? { textEmbeddings: embedded.data } : {}),
    };
  } catch (error) {
    if (error instanceof SafetensorsError) return refuse(`This is no valid safetensors file: ${error.message}.`, error);
    if (error instanceof z.ZodError || error instanceof SyntaxError) {
      return refuse(DAMAGED, error);
    }
    throw error;
  }
}
