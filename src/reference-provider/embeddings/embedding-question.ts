import { z } from 'zod';
import { InvalidRequestError } from '../../errors.js';
import type { EmbeddingInput, EmojiClip } from '../emoji-clip.js';
import type { JsonQuestion } from '../exchange.js';
import type { ContentFault } from '../misbehaviour.js';

/** Embeddings in the order of the inputs; undefined where a fault leaves one out. */
export type Vectors = (number[] | undefined)[];

/** The field of a request that names the embeddings' width: the model has one only. */
export const dimensionsOf = (model: EmojiClip) =>
  z.literal(model.config.embed_dim, `only ${model.config.embed_dim} are possible`).nullish();

/** The question for the embeddings of `inputs`, whatever the protocol. */
export function embeddingQuestion(
  model: EmojiClip,
  inputs: EmbeddingInput[],
  answer: (vectors: Vectors) => unknown,
): JsonQuestion {
  const texts = textsOf(inputs).length;
  return {
    served: { embedded: { images: inputs.length - texts, texts } },
    about: ['embeddings', inputs.map((input) => ('image' in input ? { image: input.image.hash } : input))],
    compute: () => model.embed(inputs),
    answer: (numbers, fault) => answer(spoilt(vectorsOf(numbers, model.config.embed_dim), fault)),
  };
}

export function textsOf(inputs: EmbeddingInput[]): string[] {
  return inputs.flatMap((input) => ('text' in input ? [input.text] : []));
}

/** The only part of an input. @throws InvalidRequestError when there are more. */
export function onlyPart<Part>(parts: Part[], field: string): Part {
  if (parts.length === 1) return parts[0];
  throw new InvalidRequestError({
    code: 'invalid_input',
    message: `${field}: ${parts.length} parts given; the model embeds one text or one image at a time.`,
    param: field,
  });
}

/** 32-bit floats, little-endian, in base64. */
export function toBase64(vector: number[]): string {
  const bytes = Buffer.alloc(4 * vector.length);
  for (const [i, value] of vector.entries()) bytes.writeFloatLE(value, 4 * i);
  return bytes.toString('base64');
}

function vectorsOf(numbers: Float32Array, width: number): number[][] {
  return Array.from({ length: numbers.length / width }, (_, i) => [...numbers.subarray(i * width, (i + 1) * width)]);
}

function spoilt(vectors: number[][], fault: ContentFault | undefined): Vectors {
  const last = vectors.length - 1;
  switch (fault) {
    case undefined:
      return vectors;
    case 'nan':
      return vectors.map((vector, i) => (i === 0 ? [Number.NaN, ...vector.slice(1)] : vector));
    case 'missing_value':
      return vectors.map((vector, i) => (i === last ? vector.slice(0, -1) : vector));
    case 'missing_label':
      return vectors.map((vector, i) => (i === last ? undefined : vector));
    case 'wrong_count':
      return vectors.slice(0, -1);
  }
}
