import { z } from 'zod';
import type { HeadInputs } from '../craft/economy/head-inputs.js';
import type { AdapterWeights } from '../craft/trainer-interface.js';
import { InvalidRequestError } from '../errors.js';
import { readSafetensors, SafetensorsError, type SafetensorsTensor, writeSafetensors } from '../formats/safetensors.js';
import { findJsonFault } from '../storable-json.js';
import { TRANSFORMS, type Transform } from '../views/transforms.js';
import { headTensors, layoutOf, readHead, readKernelHead, readLinearHead, readsAnswers } from './adapter-head.js';

/**
 * An adapter in one safetensors file: tensors `head.w1` [C, h], `head.b1` [h], `head.w2` [h, C], `head.b2` [C], and
 * everything else that a prediction needs as metadata. Version 1 has a soft prompt, `context` [m, d]. Version 2 has a text
 * prompt in its metadata and, where the provider embeds, `text_embeddings` [C, D]. Version 3 has a prompt of either kind and
 * a linear head, `head.shares` [T], `head.weight` [T·L, C] and `head.bias` [C]; the probe labels are in its metadata. Version
 * 4 has these and a kernel head's spaces, `head.space.I.mean` [L], `.axes` [L, K] and `.landmarks` [M, K], and its terms,
 * `head.term.I.scale.SPACE` [K] and `head.term.I.coefficients` [M, C].
 */

const FORMAT = 'craft-adapter';
const VERSIONS = { soft: '1', text: '2', linear: '3', kernel: '4' };
/** Image queries that one prediction may cost. */
const MOST_TRANSFORMS = 16;
/** Spaces and terms that a kernel head may have. */
const MOST_KERNELS = 256;
/** Of a description with as many and as long texts as it may have. */
const MOST_HEADER_BYTES = 8 * 1024 * 1024;
/** Of what is kept of it beside the file and told in lists: names in all, and each record as JSON. */
const MOST_TOLD_CHARACTERS = { classes: 1024 * 1024, record: 64 * 1024 };
const DAMAGED = "The adapter's description in the file's metadata is damaged.";

export interface AdapterDescription {
  /** Class names in the order of the logits. */
  classes: string[];
  /** Of each class, where the prompt may use them. */
  descriptions?: (string | null)[];
  /** In which the text embeddings are. */
  textSpace?: string;
  /** Labels that are scored after the classes, for the head alone. */
  probes?: string[];
  /** Of an image, that a prediction asks about; the image itself where they are absent. */
  transforms?: Transform[];
  provider: { name: string; protocol: string; remoteModel: string };
  hyperparameters: Record<string, unknown>;
  metrics: Record<string, unknown>;
}

const transforms = z.int().min(1).max(MOST_TRANSFORMS);
const indices = z
  .array(z.array(z.int().min(0).max(MOST_KERNELS)).min(1).max(MOST_TRANSFORMS))
  .min(1)
  .max(MOST_KERNELS);

const record = z
  .record(z.string(), z.unknown())
  .refine((value) => JSON.stringify(value).length <= MOST_TOLD_CHARACTERS.record);

const description = z.object({
  classes: z
    .array(z.string().min(1).max(200))
    .min(2)
    .max(65536)
    .refine((names) => names.reduce((sum, { length }) => sum + length, 0) <= MOST_TOLD_CHARACTERS.classes),
  descriptions: z.array(z.string().max(1000).nullable()).optional(),
  textSpace: z.string().max(64).optional(),
  probes: z.array(z.string().min(1).max(200)).max(65536).optional(),
  inputs: z
    .discriminatedUnion('kind', [
      z.strictObject({ kind: z.literal('scores'), transforms, probes: z.int().min(0).max(65536) }),
      z.strictObject({ kind: z.literal('embedding'), transforms, width: z.int().min(0).max(65536) }),
    ])
    .optional(),
  kernels: z.strictObject({ spaces: indices, terms: indices }).optional(),
  template: z
    .string()
    .max(4000)
    .refine((text) => text.split('{}').length === 2)
    .optional(),
  transforms: z.array(z.enum(TRANSFORMS)).min(1).max(MOST_TRANSFORMS).optional(),
  provider: z.object({ name: z.string().max(64), protocol: z.string().max(64), remoteModel: z.string().max(256) }),
  hyperparameters: record,
  metrics: record,
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
  const tensors: Record<string, SafetensorsTensor> = {};
  if (prompt.space === 'soft') {
    tensors.context = { dtype: 'F32', shape: [prompt.contextTokens, prompt.contextWidth], data: prompt.context };
  }
  Object.assign(tensors, headTensors(head, classCount));
  if (textEmbeddings) {
    const shape = [classCount, textEmbeddings.length / classCount];
    tensors.text_embeddings = { dtype: 'F32', shape, data: textEmbeddings };
  }
  const said = {
    ...about,
    ...(prompt.space === 'text' ? { template: prompt.template } : {}),
    // A training that was broken off within its first view has a head of fewer transforms than were planned.
    ...(readsAnswers(head)
      ? { inputs: head.inputs, transforms: about.transforms?.slice(0, head.inputs.transforms) }
      : {}),
    ...(readsAnswers(head) && head.kind === 'kernel' ? { kernels: layoutOf(head) } : {}),
  };
  const bytes = writeSafetensors(tensors, {
    format: FORMAT,
    version: VERSIONS[readsAnswers(head) ? head.kind : prompt.space],
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
    const { tensors, metadata } = readSafetensors(bytes, { maxHeaderBytes: MOST_HEADER_BYTES });
    if (metadata.format !== FORMAT) refuse('This safetensors file is not a craft-server adapter.');
    if (!Object.values(VERSIONS).includes(metadata.version)) {
      refuse(`This adapter file has version ${metadata.version}; ${Object.values(VERSIONS).join(', ')} are known.`);
    }
    const stated: unknown = JSON.parse(metadata.adapter ?? '');
    if (findJsonFault(stated)) refuse(DAMAGED);
    const { template, inputs, kernels, ...about } = description.parse(stated);
    const classCount = about.classes.length;
    if (about.descriptions && about.descriptions.length !== classCount) refuse(DAMAGED);
    const float32 = (name: string, rank: number) => {
      const tensor = tensors.get(name);
      if (tensor?.dtype !== 'F32' || tensor.shape.length !== rank) {
        return refuse(`Tensor "${name}" is missing or is not float32 of rank ${rank}.`);
      }
      const data = tensor.data as Float32Array;
      if (!data.every(Number.isFinite)) return refuse(`Tensor "${name}" holds NaN or infinite values.`);
      return { data, shape: tensor.shape };
    };
    const { version } = metadata;
    const isOnAnswers = version === VERSIONS.linear || version === VERSIONS.kernel;
    const isWhole = isOnAnswers
      ? inputs && fits(inputs, about) && (version === VERSIONS.kernel) === (kernels !== undefined)
      : !about.probes?.length && (about.transforms?.length ?? 1) === 1;
    if (!isWhole) refuse(DAMAGED);
    const headOnAnswers = (of: HeadInputs) => {
      if (kernels) return readKernelHead(float32, refuse, classCount, of, kernels);
      return readLinearHead(float32, refuse, classCount, of);
    };
    const head = isOnAnswers ? headOnAnswers(inputs as HeadInputs) : readHead(float32, refuse, classCount);
    if (version === VERSIONS.soft || (isOnAnswers && template === undefined)) {
      const { data: context, shape } = float32('context', 2);
      const [contextTokens, contextWidth] = shape;
      return { weights: { prompt: { space: 'soft', context, contextTokens, contextWidth }, head, classCount }, about };
    }
    if (template === undefined) return refuse(DAMAGED);
    const embedded = tensors.has('text_embeddings') ? float32('text_embeddings', 2) : undefined;
    if (embedded && embedded.shape[0] !== classCount) refuse(DAMAGED);
    const read = isOnAnswers && inputs?.kind === 'embedding' ? inputs.width : 0;
    if (embedded && read > 0 && embedded.shape[1] !== read) refuse(DAMAGED);
    return {
      weights: { prompt: { space: 'text', template }, head, classCount },
      about,
      ...(embedded ? { textEmbeddings: embedded.data } : {}),
    };
  } catch (error) {
    if (error instanceof SafetensorsError) return refuse(`This is no valid safetensors file: ${error.message}`, error);
    if (error instanceof z.ZodError || error instanceof SyntaxError) {
      return refuse(DAMAGED, error);
    }
    throw error;
  }
}

function fits(
  inputs: HeadInputs,
  { probes = [], transforms = ['identity'] }: Pick<AdapterDescription, 'probes' | 'transforms'>,
): boolean {
  return (inputs.kind === 'scores' ? inputs.probes : 0) === probes.length && inputs.transforms === transforms.length;
}
