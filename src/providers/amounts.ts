import { type CallRange, promptEvaluationsOf } from './calls.js';
import type {
  BilledAmounts,
  ClassTexts,
  ProviderCapabilities,
  ProviderPrices,
  QueryAmounts,
  TokenBounds,
  TokenUsage,
} from './provider.js';
import { textBytes } from './texts.js';

/** What calls cost: counted before they are sent, from above where only the answer tells exactly. */

/** The part of a provider's record that decides it. */
export interface Pricing {
  prices: ProviderPrices;
  capabilities: Pick<ProviderCapabilities, 'tokens'>;
}

/** The texts that the calls of a scoring have in common. */
export interface CallTexts {
  classes: ClassTexts;
  /** Bytes of the longest template, without its class name; 0 of soft prompts. */
  templateBytes: number;
}

/** Beside an option's own text: its key and the line's end. */
const OPTION_BYTES = 8;

/** What a call draws on the ledger. */
export function amountsOfCall(pricing: Pricing, call: CallRange, texts: CallTexts): QueryAmounts {
  const imageQueries = call.promptCount * call.imageCount;
  return {
    promptEvaluations: promptEvaluationsOf(call),
    imageQueries,
    requests: 1,
    costMicroUsd: costMicroUsd(
      pricing.prices,
      1,
      imageQueries,
      mostTokens(pricing, { images: call.imageCount, texts: textBytesOf(call, texts) }),
    ),
  };
}

/** What a call that embeds images draws: no prompt is evaluated. */
export function amountsOfImages(pricing: Pricing, imageCount: number): QueryAmounts {
  return {
    promptEvaluations: 0,
    imageQueries: imageCount,
    requests: 1,
    costMicroUsd: costMicroUsd(pricing.prices, 1, imageCount, mostTokens(pricing, { images: imageCount, texts: 0 })),
  };
}

export const NOTHING: QueryAmounts = { promptEvaluations: 0, imageQueries: 0, requests: 0, costMicroUsd: 0 };

/** Unit by unit. */
export function addAmounts(a: QueryAmounts, b: QueryAmounts): QueryAmounts {
  return {
    promptEvaluations: a.promptEvaluations + b.promptEvaluations,
    imageQueries: a.imageQueries + b.imageQueries,
    requests: a.requests + b.requests,
    costMicroUsd: a.costMicroUsd + b.costMicroUsd,
  };
}

/** What the ledger counts of a call that was settled: what the provider says it billed, where it says so. */
export function billedAmounts(reserved: QueryAmounts, billed: BilledAmounts | null): QueryAmounts {
  if (!billed) return reserved;
  const { imageQueries, requests, costMicroUsd } = billed;
  return { promptEvaluations: reserved.promptEvaluations, imageQueries, requests, costMicroUsd };
}

/** Unit by unit: what `count` calls of these amounts come to. */
export function multiplyAmounts(amounts: QueryAmounts, count: number): QueryAmounts {
  return {
    promptEvaluations: amounts.promptEvaluations * count,
    imageQueries: amounts.imageQueries * count,
    requests: amounts.requests * count,
    costMicroUsd: amounts.costMicroUsd * count,
  };
}

/** The price in micro-dollars, rounded up so that a limit is never passed by rounding. */
export function costMicroUsd(
  prices: ProviderPrices,
  requests: number,
  imageQueries: number,
  tokens: TokenUsage = { inputTokens: 0, outputTokens: 0 },
): number {
  const nano = prices.perRequestNanoUsd * BigInt(requests) + prices.perImageQueryNanoUsd * BigInt(imageQueries);
  const pico =
    prices.perInputTokenPicoUsd * BigInt(tokens.inputTokens) +
    prices.perOutputTokenPicoUsd * BigInt(tokens.outputTokens);
  return Number((nano * 1000n + pico + 999_999n) / 1_000_000n);
}

/** As many tokens as a request can have at most. */
export function mostTokens(
  { capabilities: { tokens } }: Pick<Pricing, 'capabilities'>,
  content: { images: number; texts: number },
): TokenUsage {
  if (!tokens) return { inputTokens: 0, outputTokens: 0 };
  return {
    inputTokens: tokens.perRequest + content.images * tokens.perImage + tokensOfText(content.texts, tokens),
    outputTokens: tokens.outputPerRequest,
  };
}

function tokensOfText(bytes: number, { bytesPerToken }: TokenBounds): number {
  return Math.ceil(bytes / bytesPerToken);
}

/** Bytes of all texts of a call: every one of its prompts completed by every one of its classes. */
function textBytesOf(call: CallRange, { classes, templateBytes }: CallTexts): number {
  const upTo = bytesUpTo(classes);
  const anchor = call.anchored ? upTo[1] : 0;
  const bytes = anchor + upTo[call.firstClass + call.classCount] - upTo[call.firstClass];
  const count = call.classCount + (call.anchored ? 1 : 0);
  return call.promptCount * (bytes + count * (templateBytes + OPTION_BYTES));
}

/** Plans count very many calls, which all name the same classes. */
const knownBytes = new WeakMap<ClassTexts, Float64Array>();

/** @returns bytes that the first c classes add to a template at most, [C + 1] */
function bytesUpTo(classes: ClassTexts): Float64Array {
  const known = knownBytes.get(classes);
  if (known) return known;
  const upTo = new Float64Array(classes.names.length + 1);
  for (let c = 0; c < classes.names.length; c++) upTo[c + 1] = upTo[c] + textBytes(classes, c);
  knownBytes.set(classes, upTo);
  return upTo;
}
