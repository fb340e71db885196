import { ProviderCallError } from './provider-call-error.js';

/** What providers that embed leave to us. */

/**
 * @param images [N, D], rows of length 1
 * @param texts [C, D], rows of length 1
 * @returns scale · cosine, [N, C]
 */
export function cosineLogits(images: Float32Array, texts: Float32Array, width: number, scale: number): Float32Array {
  const imageCount = images.length / width;
  const classCount = texts.length / width;
  const logits = new Float32Array(imageCount * classCount);
  for (let n = 0; n < imageCount; n++) {
    for (let c = 0; c < classCount; c++) {
      let sum = 0;
      for (let k = 0; k < width; k++) sum += images[n * width + k] * texts[c * width + k];
      logits[n * classCount + c] = scale * sum;
    }
  }
  return logits;
}

/** Embeddings that were paid for and cannot be compared. */
export function unequalEmbeddings(providerName: string): ProviderCallError {
  return new ProviderCallError({
    code: 'provider_answer_invalid',
    message: `The embeddings that provider "${providerName}" answered have different lengths. Set settings.dimensions in its record.`,
    billing: 'billed',
    retryable: false,
  });
}
