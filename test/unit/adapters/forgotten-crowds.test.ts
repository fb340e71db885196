import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import type { Scored, ScoringOrder } from '../../../src/adapters/metered-scoring.js';
import { PredictBatches } from '../../../src/adapters/predict-batches.js';
import { NOTHING } from '../../../src/providers/amounts.js';
import type { Provider } from '../../../src/providers/provider.js';

const WINDOW_MS = 40;
const PROVIDER = {
  kind: 'scoring',
  id: 'prov-1',
  name: 'box',
  capabilities: { returns: 'logits' },
  prices: { perRequestNanoUsd: 0n },
  limits: {
    requestsPerSecond: null,
    concurrency: 8,
    imagesPerRequest: 4,
    promptsPerRequest: 1,
    maxRequestBytes: 1_000_000,
  },
} as unknown as Provider;
const ORDER = {
  provider: PROVIDER,
  prompt: { kind: 'template', count: 1, templates: ['{}'] },
  classes: { names: ['cat', 'dog'] },
  classesParam: null,
  images: [{ sha256: '1', size: 100, bytes: async () => Buffer.alloc(100) }],
  apiKeyId: 'key-1',
} as unknown as ScoringOrder;

const score = async ({ images }: ScoringOrder): Promise<Scored> => {
  return { logits: new Float32Array(2 * images.length), usage: NOTHING };
};

describe('what is kept of those who ask', () => {
  beforeEach(() => void vi.useFakeTimers());
  afterEach(() => void vi.useRealTimers());

  const kept = (batches: PredictBatches) => (batches as unknown as { crowds: Map<string, unknown> }).crowds.size;

  it('does not grow with adapters that nobody asks any more', async () => {
    const batches = new PredictBatches(score, WINDOW_MS);
    for (let adapter = 0; adapter < 1000; adapter++) {
      batches.expect(`a${adapter}`)();
      const answered = batches.score(`a${adapter}`, ORDER);
      await vi.advanceTimersByTimeAsync(2 * WINDOW_MS);
      await answered;
    }
    expect(kept(batches)).toBeLessThanOrEqual(256);
  });

  it('stays of all who wait, however many adapters they ask', async () => {
    const batches = new PredictBatches(score, WINDOW_MS);
    const waiting = Array.from({ length: 600 }, (_, adapter) => batches.score(`a${adapter}`, ORDER));
    expect(kept(batches)).toBe(600);
    await vi.advanceTimersByTimeAsync(2 * WINDOW_MS);
    expect(await Promise.all(waiting)).toHaveLength(600);
  });
});
