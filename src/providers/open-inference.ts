import {
  decodeInferResponse,
  encodeInferRequest,
  findTensor,
  HEADER_LENGTH_FIELD,
  type InferResponse,
  OpenInferenceFormatError,
  type Parameters,
  type Tensor,
} from '../formats/open-inference-binary.js';
import { costMicroUsd } from './amounts.js';
import { amountOf, HttpProvider, MOST_BILLED } from './http-provider.js';
import { contextTensor, logitsOf, pixelTensor, type TensorMapping, tensorMapping } from './open-inference-tensors.js';
import type {
  BilledAmounts,
  ClassTexts,
  Prompts,
  ProviderCapabilities,
  ProviderImage,
  ProviderPrices,
  ScoreAnswer,
  ScoreRequest,
  ScoringProvider,
} from './provider.js';
import { ProviderCallError } from './provider-call-error.js';
import type { ConnectionOf } from './provider-connection.js';
import { toLogProbabilities, unusableLogits } from './score-lists.js';
import { templateAndLabels } from './texts.js';
import type { TransportResponse } from './transport-response.js';

export { describeOpenInference } from './open-inference-metadata.js';

/**
 * Open Inference Protocol v2 (KServe, Triton, MLServer, OpenVINO) over REST with binary tensors. The model takes images
 * (encoded ones, their pixels, or, where it says so, the SHA-256 of one that it has seen), class names and either soft
 * context prompts or text templates, and answers logits for every prompt, image and class.
 */

const MIB = 1024 * 1024;
const MAX_RESPONSE_BYTES = 1024 * MIB;
/** For what an answer holds beside its logits. */
const ENVELOPE_BYTES = 64 * MIB;
/** As JSON, which servers may answer with whatever they are asked for. */
const LOGIT_BYTES = 26;
/** Hashes kept to name an image instead of sending it again; past this many all are sent once more. */
const REMEMBERED_IMAGES = 200_000;
/** A probability of 0 counts as this. */
const PROBABILITY_FLOOR = 1e-9;

export class OpenInferenceProvider extends HttpProvider<'open_inference'> implements ScoringProvider {
  readonly kind = 'scoring';
  private readonly path: string;
  private readonly tensors: TensorMapping;
  /** Images that the provider has seen from this process: their SHA-256, and that of what was sent of them. */
  private readonly sent = new Map<string, string>();

  constructor(connection: ConnectionOf<'open_inference'>, capabilities: ProviderCapabilities, prices: ProviderPrices) {
    super(connection, capabilities, prices);
    this.path = `/v2/models/${encodeURIComponent(connection.remoteModel)}/infer`;
    this.tensors = tensorMapping(connection.settings.tensors, capabilities.imageSize);
  }

  async score(request: ScoreRequest): Promise<ScoreAnswer> {
    const { prompts, images, classes } = request;
    // Of several templates none uses descriptions: then each has a call of its own.
    const labels =
      prompts.kind === 'template' ? templateAndLabels(prompts.templates[0], classes).labels : classes.names;
    const { binary } = this.connection.settings;
    const { headers, body } = encodeInferRequest(
      {
        parameters: { binary_data_output: binary },
        inputs: [
          await this.imageTensor(images),
          bytesTensor(this.tensors.class_names.name, labels),
          this.promptTensor(prompts, classes),
        ],
        outputs: [{ name: this.tensors.logits.name, parameters: { binary_data: binary } }],
      },
      { binary },
    );
    const answer = await this.send(
      {
        method: 'POST',
        path: this.path,
        headers: { accept: binary ? 'application/json, application/octet-stream' : 'application/json', ...headers },
        body: Buffer.from(body.buffer, body.byteOffset, body.byteLength),
        maxResponseBytes: bytesOfLogits(prompts.count * images.length * classes.names.length),
      },
      request,
    ).catch((error) => {
      throw this.withoutForgotten(error, images);
    });
    return this.readAnswer(answer, request);
  }

  private async imageTensor(images: ProviderImage[]): Promise<Tensor> {
    const { images: tensor } = this.tensors;
    if (tensor.datatype !== 'BYTES') {
      const files = await Promise.all(images.map((image) => image.bytes()));
      return pixelTensor(files, tensor, this.connection.settings.image_size);
    }
    const data = await Promise.all(images.map((image) => this.asSent(image)));
    // A JSON text holds no bytes that are not text.
    const parameters = this.connection.settings.binary ? {} : { parameters: { content_type: 'base64' } };
    return { name: tensor.name, datatype: 'BYTES', shape: [data.length], data, ...parameters };
  }

  /** The bytes of an image, or, where the provider has seen these, their hash. */
  private async asSent(image: ProviderImage): Promise<Buffer> {
    if (!this.capabilities.imageReferences) return this.images.encoded(image);
    const known = this.sent.get(image.sha256);
    return known === undefined ? this.images.encoded(image) : Buffer.from(`sha256:${known}`, 'latin1');
  }

  private promptTensor(prompts: Prompts, classes: ClassTexts): Tensor {
    if (prompts.kind === 'template') {
      const templates = prompts.templates.map((template) => templateAndLabels(template, classes).template);
      return bytesTensor(this.tensors.template.name, templates);
    }
    const { contextTokens, contextWidth } = this.capabilities;
    const sizes = { prompts: prompts.count, tokens: contextTokens ?? 0, width: contextWidth ?? 0 };
    return contextTensor(prompts.values, sizes, this.tensors.context);
  }

  /** A provider that forgot images (a restart, a full cache) is sent them again by the next attempt. */
  private withoutForgotten(error: unknown, images: ProviderImage[]): unknown {
    if (!(error instanceof ProviderCallError) || error.providerCode !== 'unknown_images') return error;
    for (const image of images) this.sent.delete(image.sha256);
    return new ProviderCallError({
      code: 'provider_forgot_images',
      message: `Provider "${this.name}" does not know images that were sent to it before.`,
      billing: error.billing,
      retryable: true,
      cause: error,
    });
  }

  private async remember(images: ProviderImage[]): Promise<void> {
    if (!this.capabilities.imageReferences) return;
    if (this.sent.size > REMEMBERED_IMAGES) this.sent.clear();
    for (const image of images) {
      if (!this.sent.has(image.sha256)) this.sent.set(image.sha256, await this.images.encodedSha256(image));
    }
  }

  private async readAnswer(
    answer: TransportResponse,
    { prompts, images, classes }: ScoreRequest,
  ): Promise<ScoreAnswer> {
    const sizes = { prompts: prompts.count, images: images.length, classes: classes.names.length };
    try {
      const length = answer.headers[HEADER_LENGTH_FIELD];
      const response = decodeInferResponse(answer.body, Array.isArray(length) ? length[0] : length);
      const logits = this.readLogits(response, sizes);
      await this.remember(images);
      return { logits, billed: this.billedBy(response.parameters, sizes.prompts * sizes.images) };
    } catch (error) {
      if (error instanceof OpenInferenceFormatError) throw this.invalidAnswer(error.message, error);
      throw error;
    }
  }

  /** @throws OpenInferenceFormatError */
  private readLogits(
    { outputs }: InferResponse,
    sizes: { prompts: number; images: number; classes: number },
  ): Float32Array {
    const { logits: mapping } = this.tensors;
    const expected = mapping.axes.map((axis) => sizes[axis]);
    const tensor = findTensor(outputs, mapping.name, mapping.datatype);
    if (!tensor) throw new OpenInferenceFormatError('tensor', `There is no output "${mapping.name}".`);
    if (tensor.shape.join() !== expected.join()) {
      throw new OpenInferenceFormatError(
        'shape',
        `"${mapping.name}" has shape [${tensor.shape}], not [${expected}] (${mapping.axes.join(', ')}).`,
      );
    }
    const values = logitsOf(tensor.data, sizes, mapping);
    const unusable = unusableLogits(values);
    if (unusable !== undefined) throw new OpenInferenceFormatError('element', `"${mapping.name}": ${unusable}`);
    if (this.capabilities.returns !== 'probabilities') return values;
    const logits = toLogProbabilities([...values], PROBABILITY_FLOOR, sizes.classes);
    if (typeof logits === 'string') throw new OpenInferenceFormatError('element', `"${mapping.name}": ${logits}`);
    return logits;
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
}

function bytesOfLogits(count: number): number {
  return Math.min(MAX_RESPONSE_BYTES, ENVELOPE_BYTES + count * LOGIT_BYTES);
}

function bytesTensor(name: string, texts: string[]): Tensor {
  return { name, datatype: 'BYTES', shape: [texts.length], data: texts.map((text) => Buffer.from(text, 'utf8')) };
}
