import { InvalidRequestError } from '../errors.js';
import type { CallLimits } from './calls.js';
import type { ProviderCapabilities, ProviderLimits } from './provider.js';

/** Kept free in every request for the protocol's own header. */
const HEADER_BYTES = 4096;
/** Length of a text, beside its own bytes. */
const TEXT_OVERHEAD_BYTES = 4;

/** What every call of a scoring has in common. */
export interface Question {
  classNames: string[];
  /** The text prompt; left out where the prompts are contexts. */
  template?: string;
}

/** What the record allows, within what the provider itself says it takes. */
export function effectiveLimits(limits: ProviderLimits, capabilities: ProviderCapabilities): ProviderLimits {
  return {
    ...limits,
    imagesPerRequest: Math.min(limits.imagesPerRequest, orUnlimited(capabilities.maxImagesPerRequest)),
    promptsPerRequest: Math.min(limits.promptsPerRequest, orUnlimited(capabilities.maxPromptsPerRequest)),
    maxRequestBytes: Math.min(limits.maxRequestBytes, orUnlimited(capabilities.maxRequestBytes)),
  };
}

/**
 * How the calls that ask a question are cut.
 * @param classesParam the request field that the classes come from, for the error
 * @throws InvalidRequestError when the provider does not take so many classes
 */
export function callLimits(
  provider: { name: string; limits: ProviderLimits; capabilities: ProviderCapabilities },
  question: Question,
  classesParam: string | null,
): CallLimits {
  const { capabilities } = provider;
  const limits = effectiveLimits(provider.limits, capabilities);
  const classes = question.classNames.length;
  const texts = orUnlimited(capabilities.maxTextsPerRequest);
  const logits = orUnlimited(capabilities.maxLogitsPerRequest);
  const maxClasses = Math.min(orUnlimited(capabilities.maxClassesPerRequest), texts, logits);
  if (classes > maxClasses) {
    throw new InvalidRequestError({
      code: 'too_many_classes_for_provider',
      param: classesParam,
      message: `Provider "${provider.name}" takes at most ${maxClasses} classes in one request, not ${classes}. Use fewer classes, or another provider.`,
    });
  }
  return {
    promptsPerRequest: Math.min(limits.promptsPerRequest, Math.floor(texts / classes)),
    imagesPerRequest: limits.imagesPerRequest,
    ...(Number.isFinite(logits) ? { imageQueriesPerRequest: Math.floor(logits / classes) } : {}),
    bytes: {
      perRequest: limits.maxRequestBytes - HEADER_BYTES - sum(question.classNames.map(textBytes)),
      perPrompt:
        question.template === undefined
          ? (capabilities.contextTokens ?? 0) * (capabilities.contextWidth ?? 0) * Float32Array.BYTES_PER_ELEMENT
          : textBytes(question.template),
    },
  };
}

/** What to say of an image that is larger than the largest that fits in a request, and what helps. */
export function imageTooLarge(providerName: string, image: string, size: number, largest: number) {
  return {
    code: 'image_too_large_for_provider',
    message:
      `${image} has ${size} bytes, but one request to provider "${providerName}" has room for ${largest}. ` +
      `Scale it down or compress it; if the provider takes more, raise limits.max_request_bytes in its record.`,
  };
}

/** Null, or absent in a record that is older than the question: the provider states no maximum. */
function orUnlimited(maximum: number | null | undefined): number {
  return maximum ?? Number.POSITIVE_INFINITY;
}

function textBytes(text: string): number {
  return Buffer.byteLength(text) + TEXT_OVERHEAD_BYTES;
}

function sum(values: number[]): number {
  return values.reduce((total, value) => total + value, 0);
}
