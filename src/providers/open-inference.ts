import { createHash } from 'node:crypto';
import { z } from 'zod';
import { InvalidRequestError, ProviderError } from '../errors.js';
import {
  decodeInferResponse,
  encodeInferRequest,
  findTensor,
  HEADER_LENGTH_FIELD,
  OpenInferenceFormatError,
  type Parameters,
  type Tensor,
} from '../formats/open-inference-binary.js';
import { effectiveLimits } from './call-limits.js';
import {
  type BilledAmounts,
  costMicroUsd,
  type Prompts,
  type Provider,
  type ProviderCapabilities,
  type ProviderImage,
  type ProviderLimits,
  type ProviderPrices,
  type ScoreAnswer,
  type ScoreRequest,
} from './provider.js';
import { ProviderCallError } from './provider-call-error.js';
import type { ProviderConnection } from './provider-connection.js';
import { hasOtherUse } from './provider-record.js';
import { Transport, type TransportResponse } from './transport.js';

/**
 * Open Inference Protocol v2 (KServe, Triton, MLServer, OpenVINO) over REST with binary tensors. The model takes encoded
 * images (or, where it says so, the SHA-256 of an image that it has seen), class names and either soft context prompts
 * or text templates, and answers logits FP32 [P, N, C].
 */

const MAX_RESPONSE_BYTES = 1024 * 1024 * 1024;
/** Hashes kept to name an image instead of sending it again; past this many all are sent once more. */
const REMEMBERED_IMAGES = 200_000;
/** A common promise of services that honour idempotency keys. */
const DEFAULT_WINDOW_SECONDS = 86_400;
/** Times what was asked for; a provider that says it billed more is not believed. */
const MOST_BILLED = 16;
const DEFAULT_TEMPLATE = 'a photo of a {}.';

const modelMetadata = z.looseObject({
  inputs: z.array(z.looseObject({ name: z.string(), datatype: z.string(), shape: z.array(z.number()) })),
  outputs: z.array(z.looseObject({ name: z.string(), datatype: z.string() })),
  parameters: z
    .looseObject({
      prompt: z
        .looseObject({
          context_tokens: z.int().positive(),
          context_width: z.int().positive(),
          initial_context: z.base64().optional(),
          template: z.string().optional(),
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

/**
 * Reads the model's metadata and checks it against the record's tensor names.
 * @throws ProviderError when it cannot be reached, InvalidRequestError when it does not fit
 */
export async function describeOpenInference(connection: ProviderConnection): Promise<ProviderCapabilities> {
  const transport = openTransport(connection);
  let answer: TransportResponse;
  try {
    answer = await transport.send({ method: 'GET', path: `/v2/models/${connection.remoteModel}` });
  } catch (error) {
    if (!(error instanceof ProviderCallError)) throw error;
    const param = error.code === 'provider_credentials_refused' ? 'credentials' : 'base_url';
    throw new ProviderError({ code: error.code, message: error.message, param, cause: error });
  } finally {
    await transport.close();
  }
  const parsed = modelMetadata.safeParse(parseJson(answer.body));
  if (!parsed.success) {
    throw new InvalidRequestError({
      code: 'provider_metadata_invalid',
      param: 'base_url',
      message: `"${connection.baseUrl}" did not answer model metadata of the Open Inference Protocol v2: ${z.prettifyError(parsed.error).slice(0, 300)}`,
    });
  }
  return toCapabilities(connection, parsed.data);
}

function toCapabilities(
  connection: ProviderConnection,
  metadata: z.output<typeof modelMetadata>,
): ProviderCapabilities {
  const idempotency = idempotencyOf(connection.settings, metadata.parameters);
  if (idempotency) requireOwnHeader(idempotency.header, connection);
  const { tensors, soft_prompt: stated } = connection.settings;
  for (const [role, name, list] of [
    ['images', tensors.images, metadata.inputs],
    ['class_names', tensors.class_names, metadata.inputs],
    ['context', tensors.context, metadata.inputs],
    ['logits', tensors.logits, metadata.outputs],
  ] as const) {
    if (!list.some((tensor) => tensor.name === name)) {
      throw new InvalidRequestError({
        code: 'provider_tensor_missing',
        param: `settings.tensors.${role}`,
        message: `Model "${connection.remoteModel}" has no tensor "${name}". It has: ${list.map((tensor) => tensor.name).join(', ')}.`,
      });
    }
  }
  const said = metadata.parameters?.prompt;
  const contextTokens = stated?.context_tokens ?? said?.context_tokens;
  const contextWidth = stated?.context_width ?? said?.context_width;
  if (contextTokens === undefined || contextWidth === undefined) {
    throw new InvalidRequestError({
      code: 'provider_prompt_unknown',
      param: 'settings.soft_prompt',
      message: `Model "${connection.remoteModel}" does not state its context prompt's size. Set settings.soft_prompt with context_tokens and context_width.`,
    });
  }
  const initialContext = stated?.initial_context ?? (stated ? undefined : said?.initial_context) ?? null;
  if (initialContext !== null && Buffer.from(initialContext, 'base64').length !== contextTokens * contextWidth * 4) {
    throw new InvalidRequestError({
      code: 'provider_initial_context_invalid',
      param: 'settings.soft_prompt.initial_context',
      message: `The initial context must hold ${contextTokens} × ${contextWidth} float32 values.`,
    });
  }
  return {
    promptSpace: 'soft',
    contextTokens,
    contextWidth,
    initialContext,
    defaultTemplate: said?.template ?? DEFAULT_TEMPLATE,
    maxImagesPerRequest: metadata.parameters?.max_images_per_request ?? null,
    maxPromptsPerRequest: metadata.parameters?.max_prompts_per_request ?? null,
    maxClassesPerRequest: metadata.parameters?.max_classes_per_request ?? null,
    maxTextsPerRequest: metadata.parameters?.max_texts_per_request ?? null,
    maxLogitsPerRequest: metadata.parameters?.max_logits_per_request ?? null,
    maxRequestBytes: metadata.parameters?.max_request_bytes ?? null,
    returns: 'logits',
    imageReferences: metadata.parameters?.image_references === 'sha256',
    idempotency,
  };
}

/** @throws InvalidRequestError when the header for keys, stated by record or model, has another use */
function requireOwnHeader(header: string, { credentials }: ProviderConnection): void {
  const isCredential = credentials?.type === 'header' && credentials.name.toLowerCase() === header.toLowerCase();
  if (!isCredential && !hasOtherUse(header)) return;
  throw new InvalidRequestError({
    code: 'provider_idempotency_header_invalid',
    param: 'settings.idempotency',
    message: `Idempotency keys cannot go into the header "${header}", which has another use. Name another one, or set settings.idempotency to null.`,
  });
}

/** What the record states comes before what the model says of itself. */
function idempotencyOf(
  settings: ProviderConnection['settings'],
  said: z.output<typeof modelMetadata>['parameters'],
): ProviderCapabilities['idempotency'] {
  if (settings.idempotency !== undefined) {
    const stated = settings.idempotency;
    return stated && { header: stated.header, windowSeconds: stated.window_seconds };
  }
  if (said?.idempotency_header === undefined) return null;
  return { header: said.idempotency_header, windowSeconds: said.idempotency_window_s ?? DEFAULT_WINDOW_SECONDS };
}

export class OpenInferenceProvider implements Provider {
  readonly id: string;
  readonly name: string;
  readonly protocol: string;
  readonly remoteModel: string;
  readonly accountFingerprint: string;
  readonly limits: ProviderLimits;
  private readonly transport: Transport;
  private readonly path: string;
  /** SHA-256 of the images the provider has seen from this process. */
  private readonly sent = new Set<string>();

  constructor(
    private readonly connection: ProviderConnection,
    readonly capabilities: ProviderCapabilities,
    readonly prices: ProviderPrices,
  ) {
    this.id = connection.id;
    this.name = connection.name;
    this.protocol = connection.protocol;
    this.remoteModel = connection.remoteModel;
    this.accountFingerprint = fingerprintOf(connection);
    this.limits = effectiveLimits(connection.limits, capabilities);
    this.transport = openTransport(connection);
    this.path = `/v2/models/${connection.remoteModel}/infer`;
  }

  async score(request: ScoreRequest): Promise<ScoreAnswer> {
    const byReference = this.capabilities.imageReferences;
    const answer = await this.send(request, (image) => byReference && this.sent.has(image.sha256)).catch((error) => {
      throw this.withoutForgotten(error, request);
    });
    const scored = this.readAnswer(answer, request);
    if (byReference) this.remember(request.images);
    return scored;
  }

  async close(patienceMs?: number): Promise<void> {
    await this.transport.close(patienceMs);
  }

  /** A provider that forgot images (a restart, a full cache) is sent them again by the next attempt. */
  private withoutForgotten(error: unknown, request: ScoreRequest): unknown {
    if (!(error instanceof ProviderCallError) || error.providerCode !== 'unknown_images') return error;
    for (const image of request.images) this.sent.delete(image.sha256);
    return new ProviderCallError({
      code: 'provider_forgot_images',
      message: `Provider "${this.name}" does not know images that were sent to it before.`,
      billing: error.billing,
      retryable: true,
      cause: error,
    });
  }

  private remember(images: ProviderImage[]): void {
    if (this.sent.size > REMEMBERED_IMAGES) this.sent.clear();
    for (const image of images) this.sent.add(image.sha256);
  }

  private async send(
    request: ScoreRequest,
    asReference: (image: ProviderImage) => boolean,
  ): Promise<TransportResponse> {
    const { tensors } = this.connection.settings;
    const images = await Promise.all(
      request.images.map((image) =>
        asReference(image) ? Buffer.from(`sha256:${image.sha256}`, 'latin1') : image.bytes(),
      ),
    );
    const { headers, body } = encodeInferRequest({
      parameters: { binary_data_output: true },
      inputs: [
        { name: tensors.images, datatype: 'BYTES', shape: [images.length], data: images },
        {
          name: tensors.class_names,
          datatype: 'BYTES',
          shape: [request.classNames.length],
          data: request.classNames.map((name) => Buffer.from(name, 'utf8')),
        },
        this.promptTensor(request.prompts),
      ],
      outputs: [{ name: tensors.logits, parameters: { binary_data: true } }],
    });
    const { idempotency } = this.capabilities;
    if (idempotency && request.idempotencyKey !== undefined) {
      headers[idempotency.header.toLowerCase()] = request.idempotencyKey;
    }
    return this.transport.send({
      method: 'POST',
      path: this.path,
      headers,
      body: Buffer.from(body.buffer, body.byteOffset, body.byteLength),
      signal: request.signal,
    });
  }

  /** Answers may state `billed_image_queries` and `billed_requests`; the cost follows by the record's prices. */
  private billedBy(parameters: Parameters | undefined, asked: number): BilledAmounts | null {
    const imageQueries = amountOf(parameters?.billed_image_queries);
    const requests = amountOf(parameters?.billed_requests);
    if (imageQueries === undefined || requests === undefined) return null;
    // Nonsense must not use up everybody's limits.
    if (imageQueries > MOST_BILLED * asked || requests > MOST_BILLED) return null;
    return { imageQueries, requests, costMicroUsd: costMicroUsd(this.prices, requests, imageQueries) };
  }

  private promptTensor(prompts: Prompts): Tensor {
    const { tensors } = this.connection.settings;
    if (prompts.kind === 'template') {
      const data = prompts.templates.map((template) => Buffer.from(template, 'utf8'));
      return { name: tensors.template, datatype: 'BYTES', shape: [prompts.count], data };
    }
    const { contextTokens, contextWidth } = this.capabilities;
    const shape = [prompts.count, contextTokens ?? 0, contextWidth ?? 0];
    return { name: tensors.context, datatype: 'FP32', shape, data: prompts.values };
  }

  private readAnswer(answer: TransportResponse, request: ScoreRequest): ScoreAnswer {
    const expected = [request.prompts.count, request.images.length, request.classNames.length];
    const name = this.connection.settings.tensors.logits;
    try {
      const length = answer.headers[HEADER_LENGTH_FIELD];
      const response = decodeInferResponse(answer.body, Array.isArray(length) ? length[0] : length);
      const tensor = findTensor(response.outputs, name, 'FP32');
      if (!tensor) throw new OpenInferenceFormatError('tensor', `There is no output "${name}".`);
      if (tensor.shape.join() !== expected.join()) {
        throw new OpenInferenceFormatError('shape', `"${name}" has shape [${tensor.shape}], not [${expected}].`);
      }
      if (!tensor.data.every(Number.isFinite)) {
        throw new OpenInferenceFormatError('element', `"${name}" holds NaN or infinite values.`);
      }
      return { logits: tensor.data, billed: this.billedBy(response.parameters, expected[0] * expected[1]) };
    } catch (error) {
      if (!(error instanceof OpenInferenceFormatError)) throw error;
      throw new ProviderCallError({
        code: 'provider_answer_invalid',
        message: `Provider "${this.name}" answered something that cannot be used. ${error.message} It was billed all the same.`,
        billing: 'billed',
        retryable: false,
        cause: error,
      });
    }
  }
}

/** A whole number of at least 0 that an answer states; undefined where it states none. */
function amountOf(value: unknown): number | undefined {
  return typeof value === 'number' && Number.isSafeInteger(value) && value >= 0 ? value : undefined;
}

function fingerprintOf({ baseUrl, remoteModel, credentials }: ProviderConnection): string {
  const identity = JSON.stringify([baseUrl, remoteModel, credentials ?? null]);
  return createHash('sha256').update(identity).digest('hex').slice(0, 12);
}

function openTransport(connection: ProviderConnection): Transport {
  const { credentials, limits, settings } = connection;
  const headers: Record<string, string> = { accept: 'application/json, application/octet-stream' };
  if (credentials?.type === 'bearer') headers.authorization = `Bearer ${credentials.token}`;
  if (credentials?.type === 'header') headers[credentials.name.toLowerCase()] = credentials.value;
  return new Transport({
    providerName: connection.name,
    baseUrl: connection.baseUrl,
    headers,
    requestsPerSecond: limits.requestsPerSecond,
    concurrency: limits.concurrency,
    timeoutMs: limits.timeoutMs,
    maxResponseBytes: MAX_RESPONSE_BYTES,
    unbilledStatuses: settings.unbilled_statuses,
  });
}

function parseJson(body: Buffer): unknown {
  try {
    return JSON.parse(body.toString('utf8'));
  } catch {
    return undefined;
  }
}
