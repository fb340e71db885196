/**
 * A black-box vision-language model, as the rest of the product sees it: something that scores images against class
 * names under a prompt, or embeds images and texts in one space, one HTTP request at a time, and says honestly what it
 * can do. Protocols implement this.
 */

export const PROMPT_SPACES = ['soft', 'text'] as const;
export type PromptSpace = (typeof PROMPT_SPACES)[number];

/** What may come back of a question. */
export const RETURNED = [
  'logits',
  'log_probabilities',
  'probabilities',
  'top_log_probabilities',
  'embeddings',
] as const;

/** What an operator may bill by. */
export const BILLING_UNITS = ['image_query', 'request', 'token'] as const;

/** What the provider said it can do when it was registered. */
export interface ProviderCapabilities {
  /** What jobs use unless they say otherwise. */
  promptSpace: PromptSpace;
  /** All that it takes; absent in the record of a provider that was registered before it was asked for this. */
  promptSpaces?: PromptSpace[];
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
  /** More classes are scored by several requests, each of which is paid for. */
  maxClassesPerRequest: number | null;
  /** Prompts × classes; of embeddings, texts. */
  maxTextsPerRequest: number | null;
  /** Prompts × images × classes. */
  maxLogitsPerRequest: number | null;
  maxRequestBytes: number | null;
  /** What comes back. All but logits and embeddings are comparable within one request only. */
  returns: (typeof RETURNED)[number];
  /** What its operator bills by, as far as the protocol tells. */
  billingUnit?: (typeof BILLING_UNITS)[number];
  /** How images travel; absent: as they are. */
  imageEncoding?: 'binary' | 'base64';
  /**
   * Images are scaled to this before they are sent, and have as many bytes then, or, where that is absent, those of a PNG
   * file; absent or null: they are sent as they are.
   */
  imageSize?: { width: number; height: number; bytes?: number } | null;
  /** Whether an image that was sent before may be named by its SHA-256. */
  imageReferences: boolean;
  /** The header that makes a repeated request the same purchase, and how long it does; null where none does. */
  idempotency: { header: string; windowSeconds: number } | null;
  /** Upper bounds of what is billed by the token; absent where nothing is. */
  tokens?: TokenBounds | null;
}

/** Bounds from above, by which a call is reserved before its real usage is known. */
export interface TokenBounds {
  perImage: number;
  /** Beside texts and images. */
  perRequest: number;
  /** Bytes of text for which one token is counted; 1 is certain for every byte-level tokenizer. */
  bytesPerToken: number;
  outputPerRequest: number;
}

/** How the provider may be called. */
export interface ProviderLimits {
  requestsPerSecond: number | null;
  tokensPerSecond: number | null;
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
  /** Each with one `{}` for the class name, and perhaps one `{description}`. */
  | { kind: 'template'; count: number; templates: string[] };

/** What a prompt is completed with, in the order of the logits. */
export interface ClassTexts {
  names: string[];
  /** Of each class, where the data set has one. */
  descriptions?: (string | null)[];
}

export interface CallOptions {
  /** Names the purchase, where the provider honours idempotency keys. */
  idempotencyKey?: string;
  /** Gives up before the request is sent; one that was sent is awaited. */
  signal?: AbortSignal;
  /** The longest time for which the provider may have asked to be left alone; a longer one fails at once. */
  patienceMs?: number;
}

export interface ScoreRequest extends CallOptions {
  prompts: Prompts;
  images: ProviderImage[];
  classes: ClassTexts;
}

export interface ScoreAnswer {
  /** [P, N, C] */
  logits: Float32Array;
  /** What the provider says it billed; null where it does not say. */
  billed: BilledAmounts | null;
}

export interface EmbeddingAnswer {
  /** [rows, D], each of length 1 */
  embeddings: Float32Array;
  billed: BilledAmounts | null;
}

interface ProviderBase {
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
  /** Sends again at once, though the provider may have asked for a pause: for those who know better by now. */
  endHold(): void;
  /** Refuses new calls and waits for those in flight; after `patienceMs`, where it is given, breaks them off. */
  close(patienceMs?: number): Promise<void>;
}

/** Scores images under prompts. */
export interface ScoringProvider extends ProviderBase {
  readonly kind: 'scoring';
  /**
   * Scores every image under every prompt with exactly one billable request; never retries by itself.
   * @throws ProviderCallError
   */
  score(request: ScoreRequest): Promise<ScoreAnswer>;
}

/** Embeds images and texts in one space; logits are scale · cosine. */
export interface EmbeddingProvider extends ProviderBase {
  readonly kind: 'embedding';
  readonly scale: number;
  /** Names all that decides an image's embedding, so that one that is kept is used for nothing else. */
  readonly imageSpace: string;
  /** The same of a text's. */
  readonly textSpace: string;
  /** Exactly one billable request. @throws ProviderCallError */
  embedImages(images: ProviderImage[], options: CallOptions): Promise<EmbeddingAnswer>;
  /** Exactly one billable request. @throws ProviderCallError */
  embedTexts(texts: string[], options: CallOptions): Promise<EmbeddingAnswer>;
}

export type Provider = ScoringProvider | EmbeddingProvider;

/** Prices in nano-dollars, per token in pico-dollars: integers, also below a micro-dollar. */
export interface ProviderPrices {
  perRequestNanoUsd: bigint;
  perImageQueryNanoUsd: bigint;
  perInputTokenPicoUsd: bigint;
  perOutputTokenPicoUsd: bigint;
}

/** What a provider call costs, in the ledger's units. All are whole numbers. */
export interface QueryAmounts {
  promptEvaluations: number;
  imageQueries: number;
  requests: number;
  costMicroUsd: number;
}

/** What the ledger only notes of a call: it has no limits in these. */
export interface TokenUsage {
  inputTokens: number;
  outputTokens: number;
}

/** What a provider may say it billed. Prompt evaluations are our own unit. */
export type BilledAmounts = Omit<QueryAmounts, 'promptEvaluations'> & { tokens?: TokenUsage };
