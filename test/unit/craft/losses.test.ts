import { describe, expect, it } from 'vitest';
import { crossEntropy, headLoss, headLossTarget, LOGIT_RANGE, promptLoss, softmax } from '../../../src/craft/losses.js';
import { accuracy, argMax } from '../../../src/craft/metrics.js';

const s = [Math.log(0.5), Math.log(0.25), Math.log(0.25)];
const r = [Math.log(0.2), Math.log(0.2), Math.log(0.6)];
const label = (value: number) => Int32Array.of(value);
const kl = (p: number[], q: number[]) => p.reduce((sum, v, i) => sum + Math.exp(v) * (v - q[i]), 0);

describe('losses', () => {
  it('weighs the divergence of the refined prediction from that of the black box into the fitness of a prompt', () => {
    expect(promptLoss(s, r, label(1), 3, 0.5)).toBeCloseTo(Math.log(4) + 0.5 * kl(r, s), 12);
    expect(promptLoss(s, r, label(1), 3, 0)).toBeCloseTo(Math.log(4), 12);
  });

  it('exchanges the roles in the loss of the head', () => {
    expect(headLoss(s, r, label(2), 3, 0.5)).toBeCloseTo(-Math.log(0.6) + 0.5 * kl(s, r), 12);
    expect(kl(s, r)).not.toBeCloseTo(kl(r, s), 3);
  });

  it('averages over the images', () => {
    const labels = Int32Array.of(0, 1);
    const rows = [...s, ...r];
    expect(crossEntropy(rows, labels, 3)).toBeCloseTo((Math.log(2) + Math.log(5)) / 2, 12);
    const fitness = promptLoss(rows, [...r, ...s], labels, 3, 2);
    expect(fitness).toBeCloseTo((Math.log(2) + Math.log(5)) / 2 + kl(r, s) + kl(s, r), 12);
  });

  it('does not change when a constant is added to a row', () => {
    const shifted = s.map((value) => value + 1000);
    expect(promptLoss(shifted, r, label(0), 3, 1)).toBeCloseTo(promptLoss(s, r, label(0), 3, 1), 9);
  });

  it('stays exact for extreme logits', () => {
    expect(crossEntropy([1e4, -1e4], label(1), 2)).toBe(2e4);
    expect(promptLoss([1e4, -1e4], [-1e4, 1e4], label(0), 2, 1)).toBe(2e4);
    expect(headLoss([1e4, -1e4], [1e4, -1e4], label(0), 2, 1)).toBe(0);
  });

  it('counts a logit of minus infinity as very unlikely', () => {
    const none = Number.NEGATIVE_INFINITY;
    expect(crossEntropy([0, none], label(1), 2)).toBe(LOGIT_RANGE);
    expect(crossEntropy([0, none], label(0), 2)).toBe(0);
    expect(promptLoss([0, none], [none, 0], label(0), 2, 1)).toBe(LOGIT_RANGE);
    expect(crossEntropy([none, none], label(0), 2)).toBeCloseTo(Math.log(2), 12);
    expect([...softmax([0, none], 2)]).toEqual([1, 0]);
  });

  it('builds the target of the head gradient', () => {
    const target = headLossTarget(s, label(2), 3, 0.1);
    [0.05, 0.025, 1.025].forEach((value, c) => {
      expect(target[c]).toBeCloseTo(value, 6);
    });
    expect([...headLossTarget(s, label(2), 3, 0)]).toEqual([0, 0, 1]);
  });
});

describe('metrics', () => {
  it('counts rows whose largest logit is the label', () => {
    expect(accuracy([1, 2, 3, 0, 5, 4], Int32Array.of(1, 1, 0), 2)).toBeCloseTo(2 / 3, 12);
    expect(argMax([9, 1, 3, 3], 1, 3)).toBe(1);
  });
});
