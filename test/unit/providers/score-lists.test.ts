import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { matchLabels, quoted, toLogProbabilities } from '../../../src/providers/score-lists.js';

describe('matchLabels', () => {
  it('brings scores into the order of what was asked, whatever the order of the answer', () => {
    const labels = fc.uniqueArray(fc.string({ unit: 'grapheme' }), { minLength: 1, maxLength: 20 });
    fc.assert(
      fc.property(
        labels.chain((asked) => fc.tuple(fc.constant(asked), fc.shuffledSubarray(asked, { minLength: asked.length }))),
        ([asked, answered]) => {
          const scoreOf = (label: string) => asked.indexOf(label) / 7;
          expect(matchLabels(answered, answered.map(scoreOf), asked)).toEqual(asked.map(scoreOf));
        },
      ),
    );
  });

  it.each([
    [['a', 'b'], [1], ['a', 'b'], 'There are 1 scores for 2 labels.'],
    [['a', 'a'], [1, 2], ['a', 'b'], 'The label "a" is there twice.'],
    [['a', 'c'], [1, 2], ['a', 'b'], 'It has no score for 1 of the 2 labels, such as "b".'],
    [[], [], ['a', 'b'], 'It has no score for 2 of the 2 labels, such as "a".'],
  ])('says of %j with %j what is wrong for %j', (answered, scores, asked, complaint) => {
    expect(matchLabels(answered, scores, asked)).toBe(complaint);
  });

  it('leaves out what was not asked about', () => {
    expect(matchLabels(['x', 'b', 'a'], [9, 2, 1], ['a', 'b'])).toEqual([1, 2]);
    expect(matchLabels(['__proto__', 'constructor'], [1, 2], ['constructor', '__proto__'])).toEqual([2, 1]);
  });
});

describe('toLogProbabilities', () => {
  it('takes logarithms, of 0 that of the floor', () => {
    expect(toLogProbabilities([1, 0.5, 0], 1e-9)).toEqual(Float32Array.from([0, Math.log(0.5), Math.log(1e-9)]));
  });

  it('keeps what is below the floor, and takes nothing that is 0 for likelier', () => {
    expect(toLogProbabilities([0.5, 1e-12, 5e-324, 0], 1e-9)).toEqual(
      Float32Array.from([0.5, 1e-12, 5e-324, 5e-324], Math.log),
    );
    const rows = [0.5, 1e-12, 0, 0.5, 0.5, 0];
    expect(toLogProbabilities(rows, 1e-9, 3)).toEqual(Float32Array.from([0.5, 1e-12, 1e-12, 0.5, 0.5, 1e-9], Math.log));
  });

  it('bears sums that are rounded, and nothing else above 1', () => {
    expect(toLogProbabilities([1.0005], 1e-9)).toEqual(Float32Array.of(Math.log(1.0005)));
    expect(toLogProbabilities([0.5, 1.5], 1e-9)).toBe('1.5 is no probability.');
  });

  it.each([-0.1, Number.NaN, Number.POSITIVE_INFINITY, 2])('refuses %d', (value) => {
    expect(toLogProbabilities([0.5, value], 1e-9)).toBe(`${value} is no probability.`);
  });
});

describe('quoted', () => {
  it('escapes, and cuts what is long', () => {
    expect(quoted('a"\n')).toBe('"a\\"\\n"');
    expect(quoted('x'.repeat(61))).toBe(`"${'x'.repeat(60)}…"`);
    expect(quoted('x'.repeat(60))).toBe(`"${'x'.repeat(60)}"`);
  });
});
