import { InvalidRequestError } from '../errors.js';
import { findTensor, type InferRequest, type Tensor } from '../formats/open-inference-binary.js';
import type { ScoreRequest } from './emoji-clip.js';
import { readImageInput } from './image-input.js';
import { MAX_TEXT_BYTES } from './parse-input.js';
import type { Prompt } from './text-features.js';

/** What one inference request may ask for; published in the model's metadata. */
export const LIMITS = {
  max_images_per_request: 1024,
  max_prompts_per_request: 256,
  max_classes_per_request: 4096,
  /** Prompts × classes. */
  max_texts_per_request: 262_144,
  /** Prompts × images × classes. */
  max_logits_per_request: 16_777_216,
} as const;

export const OUTPUT_NAME = 'logits';

const INPUT_NAMES = ['images', 'class_names', 'context', 'template'];
const utf8 = new TextDecoder('utf-8', { fatal: true });

export interface ContextShape {
  /** Context tokens of a prompt. */
  tokens: number;
  /** Numbers of a context token. */
  width: number;
}

/** Reads the tensors of an inference request. @throws InvalidRequestError naming the tensor that is to blame. */
export function readScoreRequest(request: InferRequest, contextShape: ContextShape): ScoreRequest {
  for (const { name } of request.inputs) {
    if (!INPUT_NAMES.includes(name)) {
      throw invalid('inputs', `There is no input called "${name}"; there are ${INPUT_NAMES.join(', ')}.`);
    }
  }
  for (const { name } of request.outputs ?? []) {
    if (name !== OUTPUT_NAME) throw invalid('outputs', `There is no output called "${name}"; there is ${OUTPUT_NAME}.`);
  }
  const images = byteStrings(request.inputs, 'images', 1, LIMITS.max_images_per_request);
  const classNames = texts(request.inputs, 'class_names', 2, LIMITS.max_classes_per_request);
  const prompts = readPrompts(request.inputs, contextShape);
  const textCount = prompts.length * classNames.length;
  if (textCount > LIMITS.max_texts_per_request) {
    throw invalid(
      'class_names',
      `${prompts.length} prompts × ${classNames.length} classes are ${textCount} texts; at most ${LIMITS.max_texts_per_request} fit in one request. Send fewer prompts.`,
    );
  }
  if (textCount * images.length > LIMITS.max_logits_per_request) {
    throw invalid(
      'images',
      `${prompts.length} prompts × ${images.length} images × ${classNames.length} classes are ${textCount * images.length} logits; at most ${LIMITS.max_logits_per_request} fit in one request. Send fewer images or prompts.`,
    );
  }
  return { images: images.map(readImageInput), classNames, prompts };
}

function readPrompts(inputs: Tensor[], { tokens, width }: ContextShape): Prompt[] {
  const context = findTensor(inputs, 'context', 'FP32');
  const hasTemplate = inputs.some((tensor) => tensor.name === 'template');
  if ((context !== undefined) === hasTemplate)
    throw invalid('context', 'Give exactly one of "context" and "template".');
  if (context === undefined) {
    return texts(inputs, 'template', 1, LIMITS.max_prompts_per_request).map((template, i) => {
      if (template.split('{}').length === 2) return { template };
      throw invalid('template', `template[${i}]: needs exactly one {} where the class name goes.`);
    });
  }
  const { shape, data } = context;
  if (shape.length !== 3 || shape[1] !== tokens || shape[2] !== width) {
    throw invalid('context', `context: the shape must be [prompts, ${tokens}, ${width}], not [${shape}].`);
  }
  requireCount('context', shape[0], 1, LIMITS.max_prompts_per_request);
  if (!data.every(Number.isFinite)) throw invalid('context', 'context: every value must be finite.');
  const size = tokens * width;
  return Array.from({ length: shape[0] }, (_, i) => ({ context: data.subarray(i * size, (i + 1) * size) }));
}

function byteStrings(inputs: Tensor[], name: string, min: number, max: number): Uint8Array[] {
  const tensor = findTensor(inputs, name, 'BYTES');
  if (tensor === undefined) throw invalid(name, `The input "${name}" is missing.`);
  if (tensor.shape.length !== 1)
    throw invalid(name, `${name}: the shape must have one dimension, not [${tensor.shape}].`);
  requireCount(name, tensor.data.length, min, max);
  return tensor.data;
}

function texts(inputs: Tensor[], name: string, min: number, max: number): string[] {
  return byteStrings(inputs, name, min, max).map((bytes, i) => {
    if (bytes.byteLength === 0 || bytes.byteLength > MAX_TEXT_BYTES) {
      throw invalid(name, `${name}[${i}]: must be a text of 1 to ${MAX_TEXT_BYTES} bytes.`);
    }
    try {
      return utf8.decode(bytes);
    } catch {
      throw invalid(name, `${name}[${i}]: is not valid UTF-8.`);
    }
  });
}

function requireCount(name: string, count: number, min: number, max: number): void {
  if (count < min || count > max) throw invalid(name, `${name}: ${count} given, ${min} to ${max} are possible.`);
}

function invalid(param: string, message: string): InvalidRequestError {
  return new InvalidRequestError({ code: 'invalid_input', message, param });
}
