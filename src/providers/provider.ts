/**
 * A black-box vision-language model, as the rest of the product sees it: something that scores images against class
 * names under a prompt, one HTTP request at a time, and says honestly what it can do. Protocols implement this.
 */

/** What the provider said it can do when it was registered. */
export interface ProviderCapabilities {
  promptSpace: 'soft' | 'text';
  /** m, the number of context tokens a soft prompt has; null where prompts are text. */
  contextTokens: number | null;
  /** d, the width of one context token. */
  contextWidth: number | null;
  /** The provider's own starting prompt p0 [m, d], little-endian float32 in base64; null when it names none. */
  initialContext: string | null;
  /** The text template its zero-shot answer uses, with `{}` for the class name. */
  defaultTemplate: string;
  maxImagesPerRequest: number | null;
  maxPromptsPerRequest: number | null;
  maxClassesPerRequest: number | null;
  /** Prompts × classes. */
  maxTextsPerRequest: number | null;
  /** Prompts × images × classes. */
  maxLogitsPerRequest: number | null;
  maxRequestBytes: number | null;
  returns: 'logits' | 'log_probabilities';
  /** Whether an image that was sent before may be named by its SHA-256. */
  imageReferences: boolean;
  /** The header that makes a repeated request the same purchase, and how long it does; null where none does. */
  idempotency: { header: string; windowSeconds: number } | null;
}

/** How the provider may be called, and what it charges. */
export interface ProviderLimits {
  requestsPerSecond: number | null;
  concurrency: number;
  imagesPerRequest: number;
  promptsPerRequest: number;
  maxRequestBytes: number;
  timeoutMs: number;
}

export interface ProviderImage {
  /** SHA-256 of the encoded bytes, in hexadecimal. */
  sha256: string;
  /** Bytes of the encoded image. */
  size: number;
  /** The encoded image; called only when it has to be sent. */
  bytes(): Promise<Buffer>;
}

export type Prompts =
  | { kind: 'context'; count: number /** [P, m, d] */; values: Float32Array }
  | { kind: 'template'; count: number /** each with one `{}` for the class name */; templates: string[] };

export interface ScoreRequest {
  prompts: Prompts;
  images: ProviderImage[];
  classNames: string[];
  /** Names the purchase, where the provider honours idempotency keys. */
  idempotencyKey?: string;
  /** Gives up before the request is sent; one that was sent is awaited. */
  signal?: AbortSignal;
}

export interface ScoreAnswer {
  /** [P, N, C] */
  logits: Float32Array;
  /** What the provider says it billed; null where it does not say. */
  billed: BilledAmounts | null;
}

export interface Provider {
  readonly id: string;
  readonly name: string;
  readonly protocol: string;
  /** The model's name at the provider. */
  readonly remoteModel: string;
  /** Changes with the address, the model and the credentials: idempotency keys are known to one account at one place. */
  readonly accountFingerprint: string;
  readonly capabilities: ProviderCapabilities;
  readonly limits: ProviderLimits;
  readonly prices: ProviderPrices;
  /**
   * Scores every image under every prompt with exactly one billable request; never retries by itself.
   * @throws ProviderCallError
   */
  score(request: ScoreRequest): Promise<ScoreAnswer>;
  /** Refuses new calls and waits for those in flight; after `patienceMs`, where it is given, breaks them off. */
  close(patienceMs?: number): Promise<void>;
}

/** Prices in nano-dollars: integers, also below a micro-dollar. */
export interface ProviderPrices {
  perRequestNanoUsd: bigint;
  perImageQueryNanoUsd: bigint;
}

/** What a provider call costs, in the ledger's units. All are whole numbers. */
export interface QueryAmounts {
  promptEvaluations: number;
  imageQueries: number;
  requests: number;
  costMicroUsd: number;
}

/** What a provider may say it billed. Prompt evaluations are our own unit. */
export type BilledAmounts = Omit<QueryAmounts, 'promptEvaluations'>;

/** The price of a call in micro-dollars, rounded up so that a limit is never passed by rounding. */
export function costMicroUsd(prices: ProviderPrices, requests: number, imageQueries: number): number {
  const nano = prices.perRequestNanoUsd * BigInt(requests) + prices.perImageQueryNanoUsd * BigInt(imageQueries);
  return Number((nano + 999n) / 1000n);
}
