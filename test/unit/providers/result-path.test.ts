import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { isResultPath, select } from '../../../src/providers/result-path.js';

const ANSWER = {
  results: [
    { label: 'cat', score: 0.75, 'a key': [1, 2] },
    { label: 'dog', score: 0.25, 'a key': [3, [4]] },
  ],
  outputs: {
    scores: [
      [1, 2],
      [3, 4],
    ],
  },
};

describe('a path', () => {
  it.each([
    ['$', [ANSWER]],
    ['$.results[*].score', [0.75, 0.25]],
    ['$.results[1].label', ['dog']],
    ['$["results"][0]["a key"][1]', [2]],
    ['$.results[*]["a key"]', [1, 2, 3, 4]],
    ['$.outputs.scores', [1, 2, 3, 4]],
    ['$.outputs.scores[*][0]', [1, 3]],
    ['$.outputs.scores[2]', []],
    ['$.nothing.at.all', []],
    ['$.outputs[*]', []],
    ['$.results.length', []],
    ['$.outputs.toString', []],
    ['$.constructor', []],
  ])('%s leads to %j', (path, expected) => {
    expect(isResultPath(path)).toBe(true);
    expect(select(ANSWER, path)).toEqual(expected);
  });

  it.each([
    '',
    'results',
    '$results',
    '$.',
    '$..a',
    '$.a[',
    '$.a[-1]',
    '$.a[1:2]',
    '$.a[?(@.b)]',
    "$['a']",
    '$.a b',
    '$[""]',
  ])('is not written %j', (path) => {
    expect(isResultPath(path)).toBe(false);
  });

  it('reads an answer that is a list, or no JSON object at all', () => {
    expect(select([{ score: 1 }, { score: 2 }], '$[*].score')).toEqual([1, 2]);
    for (const answer of [null, 'text', 7, undefined]) expect(select(answer, '$.a[0]')).toEqual([]);
  });

  it('leads to every leaf of what it names', () => {
    const leaf = fc.oneof(fc.integer(), fc.string());
    const { lists } = fc.letrec((tie) => ({
      lists: fc.oneof({ maxDepth: 4 }, leaf, fc.array(tie('lists'), { maxLength: 4 })),
    }));
    fc.assert(
      fc.property(lists, fc.nat({ max: 3 }), (value, index) => {
        const leaves = Array.isArray(value) ? value.flat(Number.POSITIVE_INFINITY) : [value];
        expect(
          select({ deep: [0, 1, 2, 3].map((i) => (i === index ? { value } : null)) }, `$.deep[${index}].value`),
        ).toEqual(leaves);
        expect(select({ deep: [null, { value }] }, '$.deep[*]["value"]')).toEqual(leaves);
      }),
    );
  });
});
