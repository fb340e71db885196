import type { Ledger } from '../ledger/ledger.js';
import type { MeteredCall } from '../ledger/metered-call.js';
import type { QueryPurpose, ReservationGuard } from '../ledger/reservation.js';
import { amountsOfCall, amountsOfImages, type CallTexts } from '../providers/amounts.js';
import { ask, embeddedTexts } from '../providers/ask.js';
import type { CallRange } from '../providers/calls.js';
import type { EmbeddingProvider, Provider, ProviderImage } from '../providers/provider.js';
import { hashImages } from '../providers/question-hash.js';
import { type AnsweredCall, purchaseKey, toPaidAnswer } from './stored-answers.js';

/** For whom a job's calls are made. */
export interface JobCallContext {
  jobId: string;
  /** The API key that created the job. */
  apiKeyId: string | null;
  worker: string;
  provider: Provider;
  ledger: Ledger;
  guard: ReservationGuard;
  texts: CallTexts;
  signal: AbortSignal;
}

/** Calls of a job as the ledger knows them: what they draw, under which purchase they are sent, what is kept of them. */
export class JobCalls {
  constructor(private readonly context: JobCallContext) {}

  /** A call of a generation. Its answer is kept with the settlement. @param useless answers to it that were of no use */
  generationCall(
    purpose: QueryPurpose,
    range: CallRange,
    asked: AnsweredCall,
    useless: number,
  ): MeteredCall<Float32Array> {
    const { provider, signal, texts } = this.context;
    const { key, reservation } = this.purchase(asked, useless);
    return {
      reservation: { ...reservation, purpose, amounts: amountsOfCall(provider, range, texts) },
      send: () => ask(provider, asked, { idempotencyKey: key, signal }),
      keep: (answer) => toPaidAnswer(asked, answer),
      texts: embeddedTexts(provider, asked),
    };
  }

  /** A call that embeds images. Embeddings are kept for everybody. @param generation 0: before the first one */
  imageCall(
    provider: EmbeddingProvider,
    call: { chunk: number; images: ProviderImage[] },
    generation: number,
    useless: number,
  ): MeteredCall<Float32Array> {
    const { signal } = this.context;
    const { images, chunk } = call;
    const hash = hashImages(provider.imageSpace, images);
    const { key, reservation } = this.purchase({ generation, chunk, hash }, useless);
    return {
      reservation: { ...reservation, purpose: 'images', amounts: amountsOfImages(provider, images.length) },
      async send() {
        const { embeddings, billed } = await provider.embedImages(images, { idempotencyKey: key, signal });
        return { answer: embeddings, billed };
      },
      keepEmbeddings: (values) => ({
        space: provider.imageSpace,
        images: images.map(({ sha256 }) => sha256),
        values: new Uint8Array(values.buffer as ArrayBuffer, values.byteOffset, values.byteLength),
      }),
    };
  }

  private purchase(call: Pick<AnsweredCall, 'generation' | 'chunk' | 'hash'>, useless: number) {
    const { jobId, apiKeyId, worker, provider, guard } = this.context;
    const { idempotency } = provider.capabilities;
    const key = idempotency ? purchaseKey(jobId, provider, call, useless) : undefined;
    return {
      key,
      reservation: {
        accountId: jobId,
        providerId: provider.id,
        guard,
        generation: call.generation,
        chunk: call.chunk,
        worker,
        apiKeyId,
        purchase: idempotency && key ? { key, windowSeconds: idempotency.windowSeconds } : undefined,
      },
    };
  }
}
