import { z } from 'zod';
import { InvalidRequestError } from '../errors.js';
import { complaintOf, listOf } from './answer-bounds.js';
import { openTransport } from './http-provider.js';
import {
  bytesOfPixels,
  pixelSizeOf,
  type TensorMapping,
  type TensorRole,
  tensorMapping,
} from './open-inference-tensors.js';
import { requireOwnKeyHeader } from './own-headers.js';
import type { ProviderCapabilities } from './provider.js';
import { ProviderCallError } from './provider-call-error.js';
import type { ConnectionOf } from './provider-connection.js';
import { registrationError } from './registration-error.js';
import type { TransportResponse } from './transport-response.js';

/** What a model of the Open Inference Protocol v2 says of itself, held against what its record says of it. */

/** A common promise of services that honour idempotency keys. */
const DEFAULT_WINDOW_SECONDS = 86_400;
const DEFAULT_TEMPLATE = 'a photo of a {}.';
/** A model that states more than these is not believed: its prompts would not fit in memory. */
const MOST_CONTEXT_TOKENS = 1024;
const MOST_CONTEXT_WIDTH = 16_384;
const MOST_LISTED = 300;

const MOST_TENSORS = 1000;
const MOST_AXES = 64;

const tensorMetadata = z.looseObject({
  name: z.string(),
  datatype: z.string(),
  shape: listOf(z.number(), MOST_AXES),
});

const modelMetadata = z.looseObject({
  inputs: listOf(tensorMetadata, MOST_TENSORS),
  outputs: listOf(tensorMetadata.partial({ shape: true }), MOST_TENSORS),
  parameters: z
    .looseObject({
      prompt: z
        .looseObject({
          context_tokens: z.int().positive().max(MOST_CONTEXT_TOKENS).optional(),
          context_width: z.int().positive().max(MOST_CONTEXT_WIDTH).optional(),
          initial_context: z.base64().optional(),
          template: z.string().max(500).regex(/\{\}/, 'has no {} for the class name').optional(),
        })
        .optional(),
      max_images_per_request: z.int().positive().optional(),
      max_prompts_per_request: z.int().positive().optional(),
      max_classes_per_request: z.int().positive().optional(),
      max_texts_per_request: z.int().positive().optional(),
      max_logits_per_request: z.int().positive().optional(),
      max_request_bytes: z.int().positive().optional(),
      image_references: z.string().optional(),
      idempotency_header: z
        .string()
        .regex(/^[A-Za-z0-9-]{1,64}$/)
        .optional(),
      idempotency_window_s: z.int().positive().optional(),
    })
    .optional(),
});

type Metadata = z.output<typeof modelMetadata>;
type Connection = ConnectionOf<'open_inference'>;

/**
 * Reads the model's metadata and checks it against the record's tensors.
 * @throws ProviderError when it cannot be reached, InvalidRequestError when it does not fit
 */
export async function describeOpenInference(connection: Connection): Promise<ProviderCapabilities> {
  const transport = openTransport(connection);
  let answer: TransportResponse;
  try {
    answer = await transport.send({ method: 'GET', path: `/v2/models/${encodeURIComponent(connection.remoteModel)}` });
  } catch (error) {
    throw error instanceof ProviderCallError ? registrationError(error) : error;
  } finally {
    await transport.close();
  }
  const parsed = modelMetadata.safeParse(parseJson(answer.body));
  if (!parsed.success) {
    throw new InvalidRequestError({
      code: 'provider_metadata_invalid',
      param: 'base_url',
      message: `"${connection.baseUrl}" did not answer model metadata of the Open Inference Protocol v2: ${complaintOf(parsed.error)}. Check base_url.`,
    });
  }
  return toCapabilities(connection, parsed.data);
}

function toCapabilities(connection: Connection, metadata: Metadata): ProviderCapabilities {
  const { settings } = connection;
  const idempotency = idempotencyOf(settings, metadata.parameters);
  if (idempotency) requireOwnKeyHeader(idempotency.header, connection, 'settings.idempotency');
  const mapping = mappingOf(settings.tensors, metadata);
  const prompt = promptOf(connection, metadata);
  const { images, logits, context } = mapping;
  const has = (role: TensorRole) => metadata.inputs.some(({ name }) => name === mapping[role].name);
  requireTensor(connection, metadata, 'images', images.datatype, images.datatype === 'BYTES' ? [-1] : images.shape);
  requireTensor(connection, metadata, 'class_names', 'BYTES', [-1]);
  const text = has('template');
  // Where there is neither, the one that is missing is the usual one.
  const soft = has('context') || !text;
  if (soft) {
    requireTensor(
      connection,
      metadata,
      'context',
      'FP32',
      context.axes.map(() => -1),
    );
    requirePromptSize(connection, prompt);
  }
  if (text) requireTensor(connection, metadata, 'template', 'BYTES', [-1]);
  requireTensor(
    connection,
    metadata,
    'logits',
    logits.datatype,
    logits.axes.map(() => -1),
  );
  const stated = metadata.parameters;
  const onePrompt = !logits.axes.includes('prompts') || (soft && !context.axes.includes('prompts'));
  return {
    promptSpace: soft ? 'soft' : 'text',
    promptSpaces: [...(soft ? (['soft'] as const) : []), ...(text ? (['text'] as const) : [])],
    contextTokens: soft ? (prompt.tokens ?? null) : null,
    contextWidth: soft ? (prompt.width ?? null) : null,
    initialContext: soft ? prompt.initial : null,
    defaultTemplate: stated?.prompt?.template ?? DEFAULT_TEMPLATE,
    maxImagesPerRequest: logits.axes.includes('images') ? (stated?.max_images_per_request ?? null) : 1,
    maxPromptsPerRequest: onePrompt ? 1 : (stated?.max_prompts_per_request ?? null),
    maxClassesPerRequest: stated?.max_classes_per_request ?? null,
    maxTextsPerRequest: stated?.max_texts_per_request ?? null,
    maxLogitsPerRequest: stated?.max_logits_per_request ?? null,
    maxRequestBytes: stated?.max_request_bytes ?? null,
    returns: settings.returns,
    billingUnit: 'image_query',
    imageEncoding: settings.binary ? 'binary' : 'base64',
    imageSize:
      images.datatype === 'BYTES'
        ? settings.image_size
          ? { width: settings.image_size.width, height: settings.image_size.height }
          : null
        : { width: images.width, height: images.height, bytes: bytesOfPixels(images, settings.binary) },
    imageReferences: stated?.image_references === 'sha256' && images.datatype === 'BYTES',
    idempotency,
  };
}

function mappingOf(tensors: Connection['settings']['tensors'], { inputs }: Metadata): TensorMapping {
  const name = typeof tensors.images === 'string' ? tensors.images : tensors.images.name;
  return tensorMapping(tensors, pixelSizeOf(tensors.images, inputs.find((input) => input.name === name)?.shape));
}

/** @throws InvalidRequestError when the model has no such tensor, or one of another kind */
function requireTensor(
  connection: Connection,
  metadata: Metadata,
  role: TensorRole,
  datatype: string,
  shape: number[],
): void {
  const mapping = mappingOf(connection.settings.tensors, metadata);
  const { name } = mapping[role];
  const list = role === 'logits' ? metadata.outputs : metadata.inputs;
  const tensor = list.find((candidate) => candidate.name === name);
  const param = `settings.tensors.${role}`;
  if (!tensor) {
    throw new InvalidRequestError({
      code: 'provider_tensor_missing',
      param,
      message: `Model "${connection.remoteModel}" has no tensor "${name}". It has: ${list
        .map((known) => known.name)
        .join(', ')
        .slice(0, MOST_LISTED)}.`,
    });
  }
  const fits =
    tensor.shape === undefined ||
    (tensor.shape.length === shape.length &&
      tensor.shape.every((size, axis) => size < 0 || shape[axis] < 0 || size === shape[axis]));
  if (tensor.datatype === datatype && fits) return;
  throw new InvalidRequestError({
    code: 'provider_tensor_mismatch',
    param,
    message: `Tensor "${name}" of model "${connection.remoteModel}" is ${tensor.datatype} [${tensor.shape}], but the record makes it ${datatype} [${shape}] (-1: any size). Set datatype, layout or axes in ${param}.`,
  });
}

interface PromptSize {
  tokens?: number;
  width?: number;
  initial: string | null;
}

function promptOf({ settings: { soft_prompt: stated } }: Connection, { parameters }: Metadata): PromptSize {
  const said = parameters?.prompt;
  return {
    tokens: stated?.context_tokens ?? said?.context_tokens,
    width: stated?.context_width ?? said?.context_width,
    initial: stated?.initial_context ?? (stated ? undefined : said?.initial_context) ?? null,
  };
}

/** @throws InvalidRequestError when the size of a soft prompt is not known, or its start does not have it */
function requirePromptSize(connection: Connection, { tokens, width, initial }: PromptSize): void {
  if (tokens === undefined || width === undefined) {
    throw new InvalidRequestError({
      code: 'provider_prompt_unknown',
      param: 'settings.soft_prompt',
      message: `Model "${connection.remoteModel}" does not state its context prompt's size. Set settings.soft_prompt with context_tokens and context_width.`,
    });
  }
  if (initial === null || Buffer.from(initial, 'base64').length === tokens * width * 4) return;
  throw new InvalidRequestError({
    code: 'provider_initial_context_invalid',
    param: 'settings.soft_prompt.initial_context',
    message: `The initial context must hold ${tokens} × ${width} float32 values.`,
  });
}

/** What the record states comes before what the model says of itself. */
function idempotencyOf(
  settings: Connection['settings'],
  said: Metadata['parameters'],
): ProviderCapabilities['idempotency'] {
  if (settings.idempotency !== undefined) {
    const stated = settings.idempotency;
    return stated && { header: stated.header, windowSeconds: stated.window_seconds };
  }
  if (said?.idempotency_header === undefined) return null;
  return { header: said.idempotency_header, windowSeconds: said.idempotency_window_s ?? DEFAULT_WINDOW_SECONDS };
}

function parseJson(body: Buffer): unknown {
  try {
    return JSON.parse(body.toString('utf8'));
  } catch {
    return undefined;
  }
}
