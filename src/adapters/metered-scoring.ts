import { randomUUID } from 'node:crypto';
import { PayloadTooLargeError } from '../errors.js';
import type { Ledger } from '../ledger/ledger.js';
import { meteredCall, PREDICTION_RETRIES } from '../ledger/metered-call.js';
import type { QueryPurpose, ReservationGuard } from '../ledger/reservation.js';
import { callLimits, imageTooLarge } from '../providers/call-limits.js';
import { cutIntoCalls, largestImageBytes, promptEvaluationsOf } from '../providers/calls.js';
import { mapConcurrent } from '../providers/map-concurrent.js';
import {
  costMicroUsd,
  type Prompts,
  type Provider,
  type ProviderImage,
  type QueryAmounts,
} from '../providers/provider.js';

export interface ScoringOrder {
  provider: Provider;
  /** Exactly one prompt. */
  prompt: Prompts;
  classNames: string[];
  /** The request field that the classes come from, for errors; null where they are the adapter's. */
  classesParam: string | null;
  images: ProviderImage[];
  accountId: string;
  purpose: QueryPurpose;
  guard: ReservationGuard;
  worker: string;
  apiKeyId: string | null;
}

/**
 * Scores images under one prompt for a caller who waits: cut into provider calls, each under the ledger.
 * @throws InvalidRequestError, PayloadTooLargeError when the provider does not take so many classes or so large an image
 * @returns logits [N, C] and what was spent on them
 */
export async function scoreImages(
  ledger: Ledger,
  order: ScoringOrder,
): Promise<{ logits: Float32Array; usage: QueryAmounts }> {
  const { provider, images, classNames } = order;
  const { prompt } = order;
  const template = prompt.kind === 'template' ? prompt.templates[0] : undefined;
  const limits = callLimits(provider, { classNames, template }, order.classesParam);
  const largest = largestImageBytes(limits);
  const tooLarge = images.findIndex(({ size }) => size > largest);
  if (tooLarge >= 0) {
    const detail = imageTooLarge(provider.name, 'The image', images[tooLarge].size, largest);
    throw new PayloadTooLargeError({ ...detail, param: `images.${tooLarge}` });
  }
  const calls = cutIntoCalls(
    1,
    images.map(({ size }) => size),
    limits,
  );
  const logits = new Float32Array(images.length * classNames.length);
  const usage: QueryAmounts = { promptEvaluations: 0, imageQueries: 0, requests: 0, costMicroUsd: 0 };
  await mapConcurrent(calls, provider.limits.concurrency, async (call) => {
    const amounts: QueryAmounts = {
      promptEvaluations: promptEvaluationsOf(call),
      imageQueries: call.imageCount,
      requests: 1,
      costMicroUsd: costMicroUsd(provider.prices, 1, call.imageCount),
    };
    const { idempotency } = provider.capabilities;
    const key = idempotency ? `${order.purpose}/${randomUUID()}` : undefined;
    const part = await meteredCall(
      ledger,
      {
        reservation: {
          accountId: order.accountId,
          providerId: provider.id,
          purpose: order.purpose,
          amounts,
          guard: order.guard,
          chunk: call.chunk,
          worker: order.worker,
          apiKeyId: order.apiKeyId,
          purchase: idempotency && key ? { key, windowSeconds: idempotency.windowSeconds } : undefined,
        },
        async send() {
          const { logits: answer, billed } = await provider.score({
            prompts: prompt,
            images: images.slice(call.firstImage, call.firstImage + call.imageCount),
            classNames,
            idempotencyKey: key,
          });
          return { answer, billed };
        },
      },
      PREDICTION_RETRIES,
    );
    logits.set(part, call.firstImage * classNames.length);
    for (const unit of Object.keys(usage) as (keyof QueryAmounts)[]) usage[unit] += amounts[unit];
  });
  return { logits, usage };
}
