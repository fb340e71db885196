import type { MeteredCall } from '../ledger/metered-call.js';
import type { ReservationGuard } from '../ledger/reservation.js';
import { costMicroUsd, type Provider } from '../providers/provider.js';
import type { LabelledImages } from './labelled-images.js';

/** The smallest call that tells whether a provider answers: one prompt on one image, counted like any other. */
export function probeCall(options: {
  jobId: string;
  apiKeyId: string | null;
  worker: string;
  provider: Provider;
  images: LabelledImages;
  /** [m·d] or longer; the first prompt of it is sent. */
  context: Float32Array;
  guard: ReservationGuard;
}): MeteredCall<null> {
  const { jobId, apiKeyId, worker, provider, images, context, guard } = options;
  const { contextTokens, contextWidth } = provider.capabilities;
  return {
    reservation: {
      accountId: jobId,
      providerId: provider.id,
      purpose: 'probe',
      amounts: {
        promptEvaluations: 1,
        imageQueries: 1,
        requests: 1,
        costMicroUsd: costMicroUsd(provider.prices, 1, 1),
      },
      guard,
      worker,
      apiKeyId,
    },
    async send() {
      const { billed } = await provider.score({
        prompts: { kind: 'context', count: 1, values: context.subarray(0, (contextTokens ?? 0) * (contextWidth ?? 0)) },
        images: images.training.images.slice(0, 1),
        classNames: images.classes,
      });
      return { answer: null, billed };
    },
  };
}
