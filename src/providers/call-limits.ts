import { InvalidRequestError } from '../errors.js';
import { type CallLimits, largestImageBytes } from './calls.js';
import type { ClassTexts, PromptSpace, ProviderCapabilities, ProviderLimits } from './provider.js';
import { textBytes } from './texts.js';

/** Kept free in every request for the protocol's own header. */
const HEADER_BYTES = 4096;
/** Length of a text, beside its own bytes. */
const TEXT_OVERHEAD_BYTES = 4;
/** What an image takes as base64. */
const BASE64_GROWTH = 4 / 3;
/** The longest number of single precision in JSON, with sign and comma, as bytes that base64 makes as long. */
const JSON_NUMBER_BYTES = 26 / BASE64_GROWTH;
/** What a PNG file of pixels that cannot be compressed has beside them: for each row a byte, a share, its headers. */
const PNG_GROWTH = 1.002;
const PNG_HEADER_BYTES = 1024;

/** What every call of a scoring has in common. */
export interface Question {
  space: PromptSpace;
  classes: ClassTexts;
  /** Bytes of the longest template. */
  templateBytes: number;
}

interface Limited {
  name: string;
  limits: ProviderLimits;
  capabilities: ProviderCapabilities;
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
 * @throws InvalidRequestError when the provider cannot be asked about so many classes, not even in rounds
 */
export function callLimits(provider: Limited, question: Question, classesParam: string | null): CallLimits {
  const { capabilities } = provider;
  const limits = effectiveLimits(provider.limits, capabilities);
  const classes = question.classes.names.length;
  const texts = orUnlimited(capabilities.maxTextsPerRequest);
  const logits = orUnlimited(capabilities.maxLogitsPerRequest);
  const together = Math.min(classes, orUnlimited(capabilities.maxClassesPerRequest), texts, logits);
  const comparable = capabilities.returns === 'logits' || capabilities.returns === 'embeddings';
  if (together < classes && !comparable && together < 2) {
    throw new InvalidRequestError({
      code: 'too_many_classes_for_provider',
      param: classesParam,
      message: `Provider "${provider.name}" takes at most ${together} class in one request, and what it answers to several cannot be compared. Use another provider.`,
    });
  }
  // A provider completes templates with class names only; with descriptions, the texts of each prompt are its own.
  const onePrompt = question.classes.descriptions !== undefined && capabilities.returns !== 'embeddings';
  // Then, and in JSON, a template may be sent once for each class.
  const templates = onePrompt || capabilities.imageEncoding === 'base64' ? together : 1;
  const bytesOfClasses = sum(
    question.classes.names.map((_, c) => textBytes(question.classes, c) + TEXT_OVERHEAD_BYTES),
  );
  const numberBytes = capabilities.imageEncoding === 'base64' ? JSON_NUMBER_BYTES : Float32Array.BYTES_PER_ELEMENT;
  return {
    promptsPerRequest: onePrompt ? 1 : Math.max(1, Math.min(limits.promptsPerRequest, Math.floor(texts / together))),
    imagesPerRequest: limits.imagesPerRequest,
    ...(together < classes ? { classesPerRequest: together, ...(comparable ? {} : { anchored: true }) } : {}),
    ...(capabilities.returns === 'embeddings' ? { embedsTexts: true } : {}),
    ...(Number.isFinite(logits) ? { imageQueriesPerRequest: Math.floor(logits / together) } : {}),
    bytes: {
      perRequest: bytesForImages(limits, capabilities) - bytesOfClasses,
      perPrompt:
        question.space === 'soft'
          ? (capabilities.contextTokens ?? 0) * (capabilities.contextWidth ?? 0) * numberBytes
          : templates * (question.templateBytes + TEXT_OVERHEAD_BYTES),
    },
  };
}

/** How calls that embed images are cut. */
export function imageCallLimits(provider: Limited): CallLimits {
  const limits = effectiveLimits(provider.limits, provider.capabilities);
  return {
    promptsPerRequest: 1,
    imagesPerRequest: limits.imagesPerRequest,
    bytes: { perRequest: bytesForImages(limits, provider.capabilities), perPrompt: 0 },
  };
}

/** Bytes that each image takes at most, as it is sent. */
export function sentSizes(
  { imageSize }: Pick<ProviderCapabilities, 'imageSize'>,
  images: { size: number }[],
): number[] {
  if (!imageSize) return images.map(({ size }) => size);
  const scaled = imageSize.bytes ?? largestPng(imageSize.width, imageSize.height);
  return images.map(() => scaled);
}

/** Bytes of an image that is made to be sent, at most: what a provider has scaled to its size has that of any image. */
export function largestMadeBytes({ imageSize }: Pick<ProviderCapabilities, 'imageSize'>, limits: CallLimits): number {
  return imageSize ? Number.POSITIVE_INFINITY : largestImageBytes(limits);
}

function largestPng(width: number, height: number): number {
  return Math.ceil(height * (width * 3 + 1) * PNG_GROWTH) + PNG_HEADER_BYTES;
}

function bytesForImages(limits: ProviderLimits, { imageEncoding }: ProviderCapabilities): number {
  const bytes = limits.maxRequestBytes - HEADER_BYTES;
  return imageEncoding === 'base64' ? Math.floor(bytes / BASE64_GROWTH) : bytes;
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

function sum(values: number[]): number {
  return values.reduce((total, value) => total + value, 0);
}
