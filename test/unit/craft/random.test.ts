import { describe, expect, it } from 'vitest';
import { Random } from '../../../src/craft/random.js';

const draw = (random: Random, count: number) => Array.from({ length: count }, () => random.normal());

describe('Random', () => {
  it('follows from seed and label alone', () => {
    expect(draw(Random.stream(7, 'a'), 5)).toEqual(draw(Random.stream(7, 'a'), 5));
    expect(draw(Random.stream(7, 'a'), 5)).not.toEqual(draw(Random.stream(7, 'b'), 5));
    expect(draw(Random.stream(7, 'a'), 5)).not.toEqual(draw(Random.stream(8, 'a'), 5));
    expect(draw(Random.stream(-7, 'a'), 5)).not.toEqual(draw(Random.stream(7, 'a'), 5));
  });

  it('draws the sequence of xoshiro128** 1.1', () => {
    const random = Random.fromState([1, 2, 3, 4, 0, 0]);
    // Follows from the definition: the first is rotl(2 · 5, 7) · 9.
    expect(Array.from({ length: 4 }, () => random.uint32())).toEqual([11520, 0, 5927040, 70819200]);
  });

  it('goes on from its state, the spare normal included', () => {
    const random = Random.stream(3, 'x');
    random.normal();
    const copy = Random.fromState(random.state());
    expect(random.state()[4]).toBe(1);
    expect(draw(copy, 9)).toEqual(draw(random, 9));
  });

  it.each([[[0, 0, 0, 0, 0, 0]], [[1, 2, 3, 4]], [[1, 2, 3, 4, 2, 0]], [[1, 2, 3, -4, 0, 0]], [[1, 2, 3, 4, 1, NaN]]])(
    'rejects the state %j',
    (state) => {
      expect(() => Random.fromState(state)).toThrow(RangeError);
    },
  );

  it('rejects a seed that is not a safe integer', () => {
    expect(() => Random.stream(0.5, 'x')).toThrow(RangeError);
    expect(() => Random.stream(2 ** 53, 'x')).toThrow(RangeError);
  });

  it('draws standard normals', () => {
    const values = Random.stream(1, 'normal').fillNormal(new Float64Array(200_000));
    const moment = (power: number) => values.reduce((sum, value) => sum + value ** power, 0) / values.length;
    expect(Math.abs(moment(1))).toBeLessThan(0.01);
    expect(Math.abs(moment(2) - 1)).toBeLessThan(0.015);
    expect(Math.abs(moment(3))).toBeLessThan(0.03);
    expect(Math.abs(moment(4) - 3)).toBeLessThan(0.1);
  });

  it('draws uniforms in [0, 1) and integers without bias', () => {
    const random = Random.stream(1, 'uniform');
    const counts = new Array<number>(10).fill(0);
    for (let i = 0; i < 50_000; i++) {
      const value = random.uniform();
      expect(value >= 0 && value < 1).toBe(true);
      counts[random.integer(10)]++;
    }
    for (const count of counts) expect(Math.abs(count - 5000)).toBeLessThan(300);
  });

  it('draws integers without modulo bias below a limit that does not divide 2^32', () => {
    const random = Random.stream(3, 'bias');
    let low = 0;
    for (let i = 0; i < 10_000; i++) if (random.integer(3 * 2 ** 30) < 2 ** 30) low++;
    // A plain remainder would make it a half.
    expect(Math.abs(low / 10_000 - 1 / 3)).toBeLessThan(0.03);
  });

  it('permutes, each place being as likely as any other', () => {
    const random = Random.stream(2, 'permutation');
    const firsts = new Array<number>(5).fill(0);
    for (let i = 0; i < 10_000; i++) {
      const order = random.permutation(5);
      expect([...order].sort()).toEqual([0, 1, 2, 3, 4]);
      firsts[order[0]]++;
    }
    for (const count of firsts) expect(Math.abs(count - 2000)).toBeLessThan(200);
  });
});
