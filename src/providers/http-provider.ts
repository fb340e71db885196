import { createHash } from 'node:crypto';
import { costMicroUsd, mostTokens } from './amounts.js';
import { effectiveLimits } from './call-limits.js';
import { ImageEncoder } from './image-encoder.js';
import type {
  BilledAmounts,
  CallOptions,
  ProviderCapabilities,
  ProviderLimits,
  ProviderPrices,
  TokenUsage,
} from './provider.js';
import { ProviderCallError } from './provider-call-error.js';
import type { ConnectionOf, ProviderConnection } from './provider-connection.js';
import type { Protocol } from './provider-record.js';
import { queryOf } from './request-path.js';
import { Transport, type TransportOptions, type TransportRequest } from './transport.js';
import type { TransportResponse } from './transport-response.js';

const MIB = 1024 * 1024;
/** Of what answers no question: lists of models, and failures that repeat the request. */
const MAX_OTHER_BYTES = 64 * MIB;
/** Times what was asked for; what a provider says it billed beyond that is not believed. */
export const MOST_BILLED = 16;
/** Weight of the last answer. */
const SHARE_UPDATE = 0.2;

/** What all protocols have in common: who the provider is, its connections, its images, and what its answers cost. */
export abstract class HttpProvider<P extends Protocol> {
  readonly id: string;
  readonly name: string;
  readonly protocol: P;
  readonly remoteModel: string;
  readonly accountFingerprint: string;
  readonly limits: ProviderLimits;
  protected readonly images: ImageEncoder;
  private readonly transport: Transport;
  /** What the provider counts of the tokens that a request can have at most, as its answers show; at first all. */
  private shareOfTokens = 1;

  constructor(
    protected readonly connection: ConnectionOf<P>,
    readonly capabilities: ProviderCapabilities,
    readonly prices: ProviderPrices,
    options: TransportChoices = {},
  ) {
    this.id = connection.id;
    this.name = connection.name;
    this.protocol = connection.protocol;
    this.remoteModel = connection.remoteModel;
    this.accountFingerprint = fingerprintOf(connection);
    this.limits = effectiveLimits(connection.limits, capabilities);
    this.images = new ImageEncoder(connection.settings.image_size);
    this.transport = openTransport(connection as ProviderConnection, options);
  }

  async close(patienceMs?: number): Promise<void> {
    await this.transport.close(patienceMs);
    this.images.clear();
  }

  endHold(): void {
    this.transport.endHold();
  }

  /** Sends one request, under the key of its purchase where the provider honours keys. @throws ProviderCallError */
  protected send(
    request: Omit<TransportRequest, 'signal' | 'patienceMs'>,
    { idempotencyKey, signal, patienceMs }: CallOptions,
  ): Promise<TransportResponse> {
    const { idempotency } = this.capabilities;
    const key =
      idempotency && idempotencyKey !== undefined ? { [idempotency.header.toLowerCase()]: idempotencyKey } : {};
    return this.transport.send({ ...request, signal, patienceMs, headers: { ...request.headers, ...key } });
  }

  /**
   * Sends JSON and reads JSON.
   * @param options with, in `content`, what of it is billed by the token, for the limit of tokens per second
   * @throws ProviderCallError
   */
  protected async postJson(
    path: string,
    body: unknown,
    options: CallOptions & {
      headers?: Record<string, string>;
      content: { images: number; texts: string[] };
      /** As large as the answer to this question may be. */
      maxResponseBytes: number;
    },
  ): Promise<unknown> {
    const texts = options.content.texts.reduce((sum, text) => sum + Buffer.byteLength(text), 0);
    const answer = await this.send(
      {
        method: 'POST',
        path,
        headers: { accept: 'application/json', ...options.headers, 'content-type': 'application/json' },
        body: Buffer.from(JSON.stringify(body), 'utf8'),
        maxResponseBytes: options.maxResponseBytes,
        tokens: this.shareOfTokens * mostTokens(this, { images: options.content.images, texts }).inputTokens,
      },
      options,
    );
    try {
      return JSON.parse(answer.body.toString('utf8'));
    } catch (cause) {
      throw this.invalidAnswer('It is not valid JSON.', cause);
    }
  }

  /** An answer that was paid for and cannot be used. @param what may quote the answer, as may the cause; both are short */
  protected invalidAnswer(what: string, cause?: unknown): ProviderCallError {
    return new ProviderCallError({
      code: 'provider_answer_invalid',
      message: `Provider "${this.name}" answered something that cannot be used. ${this.transport.redact(what)} It was billed all the same.`,
      billing: 'billed',
      retryable: false,
      cause: this.transport.redactError(cause),
    });
  }

  /** What the provider billed, by the tokens that it states, at most 16 times the bound; null where it states none. */
  protected billedByTokens(
    imageQueries: number,
    stated: { input: unknown; output?: unknown },
    most: TokenUsage,
  ): BilledAmounts | null {
    const inputTokens = believed(stated.input, most.inputTokens);
    const outputTokens = believed(stated.output ?? 0, most.outputTokens + 1);
    if (inputTokens === undefined || outputTokens === undefined) return null;
    this.shareOfTokens += SHARE_UPDATE * (inputTokens / Math.max(1, most.inputTokens) - this.shareOfTokens);
    const tokens = { inputTokens, outputTokens };
    return { imageQueries, requests: 1, costMicroUsd: costMicroUsd(this.prices, 1, imageQueries, tokens), tokens };
  }
}

/** A whole number of at least 0 that an answer states; undefined where it states none. */
export function amountOf(value: unknown): number | undefined {
  return typeof value === 'number' && Number.isSafeInteger(value) && value >= 0 ? value : undefined;
}

/** What an answer states, as far as it is believed: nonsense must not use up everybody's limits, nor count as nothing. */
function believed(stated: unknown, most: number): number | undefined {
  const isAmount = typeof stated === 'number' && Number.isInteger(stated) && stated >= 0;
  return isAmount ? Math.min(stated, MOST_BILLED * most) : undefined;
}

/** Headers that carry the credentials. */
function credentialHeaders({ credentials }: ProviderConnection): Record<string, string> {
  if (credentials?.type === 'bearer') return { authorization: `Bearer ${credentials.token}` };
  if (credentials?.type === 'header') return { [credentials.name.toLowerCase()]: credentials.value };
  return {};
}

/** What a protocol decides of how it is reached. */
type TransportChoices = Partial<Pick<TransportOptions, 'unbilledWhileLoading' | 'largeAnswerRemedy'>>;

/** HTTP to the provider of a connection, with its credentials, limits and rates. */
export function openTransport(connection: ProviderConnection, choices: TransportChoices = {}): Transport {
  const { credentials, limits, settings } = connection;
  return new Transport({
    providerName: connection.name,
    baseUrl: connection.baseUrl,
    headers: credentialHeaders(connection),
    query: queryOf(connection),
    requestsPerSecond: limits.requestsPerSecond,
    tokensPerSecond: limits.tokensPerSecond,
    addressPolicy: connection.addresses,
    observe: connection.observe,
    concurrency: limits.concurrency,
    timeoutMs: limits.timeoutMs,
    maxResponseBytes: MAX_OTHER_BYTES,
    unbilledStatuses: settings.unbilled_statuses,
    ...choices,
    secrets: credentials ? [credentials.type === 'bearer' ? credentials.token : credentials.value] : [],
  });
}

function fingerprintOf({
  baseUrl,
  remoteModel,
  credentials,
}: Pick<ProviderConnection, 'baseUrl' | 'remoteModel' | 'credentials'>): string {
  const identity = JSON.stringify([baseUrl, remoteModel, credentials ?? null]);
  return createHash('sha256').update(identity).digest('hex').slice(0, 12);
}

/** What the record says of idempotency keys, for protocols that cannot say it themselves. */
function statedIdempotency({ settings }: ProviderConnection): ProviderCapabilities['idempotency'] {
  const { idempotency } = settings;
  return idempotency ? { header: idempotency.header, windowSeconds: idempotency.window_seconds } : null;
}

/** What a provider of text prompts can do where its protocol has no way to say more. */
export function textCapabilities(
  connection: ProviderConnection,
  own: Pick<ProviderCapabilities, 'defaultTemplate' | 'returns'> & Partial<ProviderCapabilities>,
): ProviderCapabilities {
  const { image_size: size } = connection.settings;
  return {
    promptSpace: 'text',
    promptSpaces: ['text'],
    contextTokens: null,
    contextWidth: null,
    initialContext: null,
    maxImagesPerRequest: 1,
    maxPromptsPerRequest: 1,
    maxClassesPerRequest: null,
    maxTextsPerRequest: null,
    maxLogitsPerRequest: null,
    maxRequestBytes: null,
    imageEncoding: 'base64',
    imageSize: size ? { width: size.width, height: size.height } : null,
    imageReferences: false,
    idempotency: statedIdempotency(connection),
    ...own,
  };
}
