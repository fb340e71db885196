import { addAmounts, amountsOfCall, amountsOfImages, NOTHING } from '../providers/amounts.js';
import { sentSizes } from '../providers/call-limits.js';
import { cutIntoCalls, largestImageBytes } from '../providers/calls.js';
import type { QueryAmounts } from '../providers/provider.js';
import type { Transform } from '../views/transforms.js';
import { type ScoringLimits, type ScoringOrder, textsOf } from './metered-scoring.js';

/** What a prediction asks about an image, and what that costs. */
export interface PredictionCost {
  transforms: Transform[];
  usage: QueryAmounts;
}

/**
 * The cost of one image in a request of its own, with limits and prices as they are now. Where the provider embeds, the image
 * is taken to be new, and the texts to be known.
 * @returns null where a request has no room for an image
 */
export function predictionCost(
  order: Pick<ScoringOrder, 'provider' | 'prompt' | 'classes'> & { limits: ScoringLimits },
  transforms: Transform[],
): PredictionCost | null {
  const { provider, classes, limits } = order;
  // As it comes, an image is in a call of its own only where it is nearly as large as the call may be.
  const sizes = sentSizes(
    provider.capabilities,
    transforms.map(() => ({ size: 1 })),
  );
  const largest = largestImageBytes(limits.images);
  if (sizes.some((size) => size > largest)) return null;
  const amounts =
    provider.kind === 'embedding'
      ? cutIntoCalls(1, sizes, 1, limits.images).map(({ imageCount }) => amountsOfImages(provider, imageCount))
      : cutIntoCalls(1, sizes, classes.names.length, limits.question).map((call) =>
          amountsOfCall(provider, call, textsOf(order)),
        );
  return { transforms, usage: amounts.reduce(addAmounts, NOTHING) };
}
