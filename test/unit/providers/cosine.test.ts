import { describe, expect, it } from 'vitest';
import { cosineLogits } from '../../../src/providers/cosine.js';

describe('cosineLogits', () => {
  it('are the scaled cosines of every image with every text', () => {
    const images = Float32Array.of(1, 0, 0.6, 0.8, 0, -1);
    const texts = Float32Array.of(1, 0, 0, 1);
    const expected = [100, 0, 60, 80, 0, -100];
    const logits = cosineLogits(images, texts, 2, 100);
    expect(logits).toHaveLength(3 * 2);
    for (const [i, logit] of logits.entries()) expect(logit).toBeCloseTo(expected[i], 4);
  });

  it('of no images are none', () => {
    expect(cosineLogits(new Float32Array(0), Float32Array.of(1, 0), 2, 100)).toEqual(new Float32Array(0));
  });
});
