import type { MeteredCall } from '../ledger/metered-call.js';
import type { ReservationGuard } from '../ledger/reservation.js';
import { amountsOfCall, type CallTexts } from '../providers/amounts.js';
import { ask, embeddedTexts, questionOf } from '../providers/ask.js';
import { sentSizes } from '../providers/call-limits.js';
import { type CallLimits, cutIntoCalls } from '../providers/calls.js';
import type { Prompts, Provider, ProviderImage } from '../providers/provider.js';

/** The smallest call that tells whether a provider answers: one prompt on one image, counted like any other. */
export function probeCall(options: {
  jobId: string;
  apiKeyId: string | null;
  worker: string;
  provider: Provider;
  images: { training: { images: ProviderImage[] } };
  texts: CallTexts;
  callLimits: CallLimits;
  /** One of them. */
  prompt: Prompts;
  guard: ReservationGuard;
}): MeteredCall<null> {
  const { jobId, apiKeyId, worker, provider, images, texts, prompt, guard } = options;
  const one = images.training.images.slice(0, 1);
  const sizes = sentSizes(provider.capabilities, one);
  const [call] = cutIntoCalls(1, sizes, texts.classes.names.length, options.callLimits);
  const question = questionOf(call, { prompts: prompt, images: one, classes: texts.classes });
  return {
    reservation: {
      accountId: jobId,
      providerId: provider.id,
      purpose: 'probe',
      amounts: amountsOfCall(provider, call, texts),
      guard,
      worker,
      apiKeyId,
    },
    async send() {
      const { billed } = await ask(provider, question, {});
      return { answer: null, billed };
    },
    texts: embeddedTexts(provider, question),
  };
}
