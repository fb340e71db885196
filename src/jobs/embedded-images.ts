import type { ScoringRequest } from '../craft/trainer.js';
import { type ImageCall, type ImageEmbeddings, missingImageCalls } from '../embeddings/image-embeddings.js';
import type { Ledger } from '../ledger/ledger.js';
import { sentSizes } from '../providers/call-limits.js';
import type { CallLimits } from '../providers/calls.js';
import type { Circuit } from '../providers/circuit.js';
import { cosineLogits, unequalEmbeddings } from '../providers/cosine.js';
import type { EmbeddingProvider } from '../providers/provider.js';
import type { JobCalls } from './job-calls.js';
import { HandedBackError, persistentCall } from './persistent-call.js';
import { probeCall } from './probe-call.js';
import type { ScoredImages } from './scored-images.js';

/** The images of a job as embeddings: what logits are computed with, in place of image queries. */
export class EmbeddedImages {
  private constructor(
    private readonly sets: Record<ScoringRequest['imageSet'], Float32Array>,
    private readonly width: number,
    private readonly classCount: number,
    private readonly provider: EmbeddingProvider,
  ) {}

  /**
   * Brings the embeddings of all images; those that are not there yet are paid for by the job.
   * @throws as `persistentCall` does
   */
  static async open(
    store: ImageEmbeddings,
    provider: EmbeddingProvider,
    images: ScoredImages,
    classCount: number,
    payment: {
      calls: JobCalls;
      /** The generation that they are counted to; 0: before the first one. */
      generation: number;
      limits: CallLimits;
      ledger: Ledger;
      circuit: Circuit;
      signal: AbortSignal;
      /** @throws LimitReachedError when the budget does not pay for these calls and one generation */
      requireBudget(calls: ImageCall[]): Promise<void>;
      probe: Omit<Parameters<typeof probeCall>[0], 'provider' | 'images'>;
    },
  ): Promise<EmbeddedImages> {
    const all = [...images.training.images, ...images.validation.images];
    const sizes = sentSizes(provider.capabilities, all);
    const { ledger, circuit, signal, calls, limits, generation } = payment;
    const missing = missingImageCalls(all, sizes, await store.known(provider, all), limits);
    if (missing.length > 0) await payment.requireBudget(missing);
    const wanted = { images: all, sizes, limits, concurrency: provider.limits.concurrency };
    const owner = payment.probe.jobId;
    await store
      .bring(provider, wanted, { owner, signal }, async (call) => {
        if (signal.aborted) throw new HandedBackError('The worker is shutting down.');
        const probe = () => probeCall({ ...payment.probe, provider, images });
        await persistentCall(
          ledger,
          circuit,
          signal,
          (useless) => calls.imageCall(provider, call, generation, useless),
          probe,
        );
      })
      .catch((error: unknown) => {
        const aborted = error instanceof Error && error.name === 'AbortError';
        throw aborted ? new HandedBackError('The worker is shutting down.', { cause: error }) : error;
      });
    const training = await store.load(provider, images.training.images);
    const validation = await store.load(provider, images.validation.images);
    if (!training || !validation || (validation.values.length > 0 && validation.width !== training.width)) {
      throw unequalEmbeddings(provider.name);
    }
    const sets = { training: training.values, validation: validation.values };
    return new EmbeddedImages(sets, training.width, classCount, provider);
  }

  /** D, the width of an embedding. */
  get embeddingWidth(): number {
    return this.width;
  }

  /** [N, D] */
  of(imageSet: ScoringRequest['imageSet']): Float32Array {
    return this.sets[imageSet];
  }

  /**
   * @param texts [C, D]
   * @returns scale · cosine, [N, C]
   */
  logits(imageSet: ScoringRequest['imageSet'], texts: Float32Array): Float32Array {
    const { provider, width, classCount } = this;
    if (texts.length !== classCount * width) throw unequalEmbeddings(provider.name);
    return cosineLogits(this.sets[imageSet], texts, width, provider.scale);
  }
}
