import { describe, expect, it } from 'vitest';
import { rankLabels } from '../../../src/adapters/ranking.js';

const LABELS = ['a', 'b', 'c'];

describe('rankLabels', () => {
  it('answers probabilities, best first, one list an image', () => {
    const [first, second] = rankLabels(Float32Array.of(0, Math.log(3), 0, 5, 5, 5), LABELS, 2);
    expect(first.map(({ label }) => label)).toEqual(['b', 'a']);
    expect(first[0].score).toBeCloseTo(0.6, 6);
    expect(first[1].score).toBeCloseTo(0.2, 6);
    expect(second.map(({ label }) => label)).toEqual(['a', 'b']);
  });

  it('sums to one over all labels, for extreme logits too', () => {
    const [row] = rankLabels(Float32Array.of(1e4, -1e4, 9999), LABELS, 99);
    expect(row).toHaveLength(3);
    expect(row.reduce((sum, { score }) => sum + score, 0)).toBeCloseTo(1, 12);
    expect(row.every(({ score }) => score >= 0 && score <= 1)).toBe(true);
  });
});
