import { describe, expect, it } from 'vitest';
import { AdditiveModel } from '../../../src/craft/additive-model.js';
import { Random } from '../../../src/craft/random.js';

const SIZES = [6, 8, 8];
const EFFECTS = [
  [3, 0, 3, 3, 3, 3],
  [1, 1, 1, 1, 1, 0, 1, 1],
  [0, 2, 2, 2, 2, 2, 2, 2],
];

function frequencies(model: AdditiveModel, slot: number): number[] {
  const random = Random.stream(1, `slot ${slot}`);
  const counts = Array<number>(SIZES[slot]).fill(0);
  for (let draw = 0; draw < 4000; draw++) counts[model.sample(slot, random)] += 1 / 4000;
  return counts;
}

function randomRows(count: number): number[][] {
  const random = Random.stream(2, 'rows');
  return Array.from({ length: count }, () => SIZES.map((size) => random.integer(size)));
}

describe('AdditiveModel', () => {
  it('prefers the value of least loss in every slot, and keeps drawing all the others', () => {
    const rows = randomRows(120);
    const model = new AdditiveModel(SIZES, [0, 1, 2]);
    model.fit(
      rows,
      rows.map((row) => row.reduce((sum, value, slot) => sum + EFFECTS[slot][value], 0)),
    );
    EFFECTS.forEach((effects, slot) => {
      const drawn = frequencies(model, slot);
      expect(drawn.indexOf(Math.max(...drawn))).toBe(effects.indexOf(0));
      expect(Math.max(...drawn)).toBeGreaterThan(0.3);
      expect(Math.min(...drawn)).toBeGreaterThan(0.015);
    });
  });

  it('draws uniformly before it has learned, and where the losses are all the same', () => {
    const rows = randomRows(50);
    const constant = new AdditiveModel(SIZES, [0, 1, 2]);
    constant.fit(rows, Array(50).fill(0.7));
    for (const model of [new AdditiveModel(SIZES, [0, 1, 2]), constant]) {
      for (const share of frequencies(model, 1)) expect(share).toBeCloseTo(1 / 8, 1);
    }
  });

  it('carries what it learned in one slot over to a slot of the same vocabulary that never varied', () => {
    const rows = randomRows(120).map(([lead, word]) => [lead, word, 0]);
    const losses = rows.map(([, word]) => (word === 5 ? 0 : 1));
    const shareOfFive = (vocabularies: number[]) => {
      const model = new AdditiveModel(SIZES, vocabularies);
      model.fit(rows, losses);
      return frequencies(model, 2)[5];
    };
    expect(shareOfFive([0, 1, 1])).toBeGreaterThan(1.5 * shareOfFive([0, 1, 2]));
  });
});
