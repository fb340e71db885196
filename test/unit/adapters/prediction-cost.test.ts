import { describe, expect, it } from 'vitest';
import { scoringLimits } from '../../../src/adapters/metered-scoring.js';
import { predictionCost } from '../../../src/adapters/prediction-cost.js';
import type { Provider, ProviderCapabilities } from '../../../src/providers/provider.js';
import type { Transform } from '../../../src/views/transforms.js';

const MIB = 1024 * 1024;
const TRANSFORMS: Transform[] = ['identity', 'mirror', 'blur', 'negative'];

/** A provider that takes MiB-sized requests and has a price for each. */
function costAt(capabilities: Partial<ProviderCapabilities>, classCount = 2) {
  const provider = {
    kind: 'scoring',
    name: 'p',
    capabilities: { promptSpace: 'text', returns: 'logits', ...capabilities },
    limits: { imagesPerRequest: 64, promptsPerRequest: 1, maxRequestBytes: MIB },
    prices: {
      perRequestNanoUsd: 1000n,
      perImageQueryNanoUsd: 0n,
      perInputTokenPicoUsd: 0n,
      perOutputTokenPicoUsd: 0n,
    },
  } as unknown as Provider;
  const asked = {
    provider,
    prompt: { kind: 'template' as const, count: 1, templates: ['a {}'] },
    classes: { names: Array.from({ length: classCount }, (_, c) => `a class, number ${c}`) },
    classesParam: null,
  };
  return predictionCost({ ...asked, limits: scoringLimits(asked) }, TRANSFORMS);
}

describe('predictionCost', () => {
  it('has all transforms of an image in one request', () => {
    expect(costAt({})).toEqual({
      transforms: TRANSFORMS,
      usage: { promptEvaluations: 1, imageQueries: 4, requests: 1, costMicroUsd: 1 },
    });
  });

  it('has as many requests as images take that are scaled to the size of the black box', () => {
    const bytes = 400 * 1024;
    expect(costAt({ imageSize: { width: 512, height: 512, bytes } })?.usage).toMatchObject({
      imageQueries: 4,
      requests: 2,
      costMicroUsd: 2,
    });
  });

  it('is null where no image fits in a request: beside the names of its classes, or scaled', () => {
    expect(costAt({}, 65_536)).toBeNull();
    expect(costAt({ imageSize: { width: 2048, height: 2048 } })).toBeNull();
  });
});
