import { randomUUID } from 'node:crypto';
import type { ImageEmbeddings } from '../embeddings/image-embeddings.js';
import type { MeteredCall } from '../ledger/metered-call.js';
import { amountsOfImages } from '../providers/amounts.js';
import type { CallLimits } from '../providers/calls.js';
import { cosineLogits, unequalEmbeddings } from '../providers/cosine.js';
import type { CallOptions, EmbeddingProvider, ProviderImage, QueryAmounts } from '../providers/provider.js';
import { hashImages } from '../providers/question-hash.js';
import type { KeptAnswer } from './repeatable-requests.js';

/** A call as its sender gives it to be metered: the reservation and the key of the purchase come with the meter. */
export type CallToMeter = Omit<MeteredCall<Float32Array>, 'reservation' | 'send'> & {
  send(options: CallOptions): ReturnType<MeteredCall<Float32Array>['send']>;
  /** SHA-256 of all that is asked. */
  hash(): Uint8Array<ArrayBuffer>;
  /** Told of the answer before it is settled. */
  keepFirst?(answered: KeptAnswer): Promise<void> | undefined;
};

/** Sends a call under the ledger. @returns its answer */
export interface CallMeter {
  send(chunk: number, amounts: QueryAmounts, call: CallToMeter): Promise<Float32Array>;
}

/** How long a caller waits for an image that somebody else is bringing. */
const PATIENCE_MS = 30_000;

/**
 * Logits of a provider that embeds: what was embedded before is not asked for again.
 * @param texts brings the embeddings [C, D] of the prompt's texts
 * @returns logits [N, C], and the embeddings that they were computed with [N, D]
 */
export async function embeddedLogits(
  store: ImageEmbeddings,
  meter: CallMeter,
  {
    provider,
    images,
    sizes,
    limits,
    classCount,
    owner = randomUUID(),
  }: {
    provider: EmbeddingProvider;
    images: ProviderImage[];
    sizes: number[];
    limits: CallLimits;
    classCount: number;
    /** In whose name images are claimed; one of its own where it is left out. */
    owner?: string;
  },
  texts: () => Float32Array | Promise<Float32Array>,
): Promise<{ logits: Float32Array; embeddings: Float32Array }> {
  const wanted = { images, sizes, limits, concurrency: provider.limits.concurrency };
  const claimant = { owner, patienceMs: PATIENCE_MS };
  await store.bring(provider, wanted, claimant, async (call) => {
    await meter.send(call.chunk, amountsOfImages(provider, call.images.length), {
      async send(options) {
        const { embeddings, billed } = await provider.embedImages(call.images, options);
        return { answer: embeddings, billed };
      },
      hash: () => hashImages(provider.imageSpace, call.images),
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
