import type { Ledger, QueryPurpose, ReservationGuard } from '../ledger/ledger.js';
import { meteredCall, PREDICTION_RETRIES } from '../ledger/metered-call.js';
import { cutIntoCalls, promptEvaluationsOf } from '../providers/calls.js';
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
  images: ProviderImage[];
  accountId: string;
  purpose: QueryPurpose;
  guard: ReservationGuard;
  worker: string;
}

/**
 * Scores images under one prompt for a caller who waits: cut into provider calls, each under the ledger.
 * @returns logits [N, C] and what was spent on them
 */
export async function scoreImages(
  ledger: Ledger,
  order: ScoringOrder,
): Promise<{ logits: Float32Array; usage: QueryAmounts }> {
  const { provider, images, classNames } = order;
  const calls = cutIntoCalls(1, images.length, provider.limits);
  const logits = new Float32Array(images.length * classNames.length);
  const usage: QueryAmounts = { promptEvaluations: 0, imageQueries: 0, requests: 0, costMicroUsd: 0 };
  await mapConcurrent(calls, provider.limits.concurrency, async (call) => {
    const amounts: QueryAmounts = {
      promptEvaluations: promptEvaluationsOf(call),
      imageQueries: call.imageCount,
      requests: 1,
      costMicroUsd: costMicroUsd(provider.prices, 1, call.imageCount),
    };
    const part = await meteredCall(
      ledger,
      {
        accountId: order.accountId,
        providerId: provider.id,
        purpose: order.purpose,
        amounts,
        guard: order.guard,
        chunk: call.chunk,
        worker: order.worker,
      },
      PREDICTION_RETRIES,
      undefined,
      () =>
        provider.score({
          prompts: order.prompt,
          images: images.slice(call.firstImage, call.firstImage + call.imageCount),
          classNames,
        }),
    );
    logits.set(part, call.firstImage * classNames.length);
    for (const unit of Object.keys(usage) as (keyof QueryAmounts)[]) usage[unit] += amounts[unit];
  });
  return { logits, usage };
}
