import { randomUUID } from 'node:crypto';
import type { ImageEmbeddings } from '../embeddings/image-embeddings.js';
import { amountsOfImages } from '../providers/amounts.js';
import type { CallLimits } from '../providers/calls.js';
import { cosineLogits, unequalEmbeddings } from '../providers/cosine.js';
import type { EmbeddingProvider, ProviderImage } from '../providers/provider.js';
import type { Meter } from './metered-scoring.js';

/** How long a caller waits for an image that somebody else is bringing. */
const PATIENCE_MS = 30_000;

/**
 * Logits of a provider that embeds: what was embedded before is not asked for again.
 * @param texts brings the embeddings [C, D] of the prompt's texts
 * @returns logits [N, C], and the embeddings that they were computed with [N, D]
 */
export async function embeddedLogits(
  store: ImageEmbeddings,
  meter: Meter,
  {
    provider,
    images,
    sizes,
    limits,
    classCount,
  }: {
    provider: EmbeddingProvider;
    images: ProviderImage[];
    sizes: number[];
    limits: CallLimits;
    classCount: number;
  },
  texts: () => Float32Array | Promise<Float32Array>,
): Promise<{ logits: Float32Array; embeddings: Float32Array }> {
  const wanted = { images, sizes, limits, concurrency: provider.limits.concurrency };
  const claimant = { owner: randomUUID(), patienceMs: PATIENCE_MS };
  await store.bring(provider, wanted, claimant, async (call) => {
    await meter.send(call.chunk, amountsOfImages(provider, call.images.length), {
      async send(options) {
        const { embeddings, billed } = await provider.embedImages(call.images, options);
        return { answer: embeddings, billed };
      },
      keepEmbeddings: (values) => ({
        space: provider.imageSpace,
        images: call.images.map(({ sha256 }) => sha256),
        values: new Uint8Array(values.buffer as ArrayBuffer, values.byteOffset, values.byteLength),
      }),
    });
  });
  const textEmbeddings = await texts();
  const loaded = await store.load(provider, images);
  if (!loaded || textEmbeddings.length !== classCount * loaded.width) throw unequalEmbeddings(provider.name);
  const logits = cosineLogits(loaded.values, textEmbeddings, loaded.width, provider.scale);
  return { logits, embeddings: loaded.values };
}
