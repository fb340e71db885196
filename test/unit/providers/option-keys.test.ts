import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { logProbabilitiesOfKeys, optionKeys } from '../../../src/providers/option-keys.js';

describe('optionKeys', () => {
  it('are letters, as far as there are any, or numbers', () => {
    expect(optionKeys('letters', 3)).toEqual(['A', 'B', 'C']);
    expect(optionKeys('letters', 27).slice(25)).toEqual(['Z', 'a']);
    expect(optionKeys('letters', 100)).toHaveLength(52);
    expect(optionKeys('numbers', 11).slice(8)).toEqual(['9', '10', '11']);
  });

  it.each(['letters', 'numbers'] as const)('are all different: %s', (kind) => {
    const keys = optionKeys(kind, 52);
    expect(new Set(keys).size).toBe(52);
  });
});

describe('the log-probabilities of keys', () => {
  const keys = ['A', 'B', 'C'];
  const read = (tokens: [string, number][], floor = -20) => [
    ...logProbabilitiesOfKeys(
      tokens.map(([token, logprob]) => ({ token, logprob })),
      keys,
      floor,
    ),
  ];

  it('are those of their tokens, the floor where a key is not among the likeliest', () => {
    expect(
      read([
        ['B', -0.5],
        ['A', -2],
        ['The', -1],
      ]),
    ).toEqual([-2, -0.5, -20]);
    expect(read([])).toEqual([-20, -20, -20]);
  });

  it('add up the spellings of a key', () => {
    const [a] = read([
      ['A', Math.log(0.25)],
      [' A', Math.log(0.125)],
      ['ĠA', Math.log(0.0625)],
      ['▁A', Math.log(0.0625)],
    ]);
    expect(a).toBeCloseTo(Math.log(0.5), 6);
  });

  it.each(['a', 'AB', '(A)', 'A.'])('are not those of another word: %j', (token) => {
    expect(read([[token, -0.1]])[0]).toBe(-20);
  });

  it('are kept as they are below the floor, which no missing key is above', () => {
    expect(
      read([
        ['A', -0.1],
        ['B', -25.5],
      ]),
    ).toEqual([Math.fround(-0.1), -25.5, -25.5]);
    expect(
      read([
        ['A', -3],
        ['B', -9999],
      ]),
    ).toEqual([-3, -9999, -9999]);
  });

  it('are those answered, or none above them, whatever a provider answers', () => {
    const token = fc.record({
      token: fc.constantFrom('A', ' A', 'B', 'C\n', 'x'),
      logprob: fc.oneof(fc.double({ min: -1e4, max: 1e4, noNaN: true }), fc.constant(Number.NEGATIVE_INFINITY)),
    });
    fc.assert(
      fc.property(
        fc.array(token, { maxLength: 20 }),
        fc.double({ min: -100, max: -5, noNaN: true }),
        (tokens, floor) => {
          const scores = logProbabilitiesOfKeys(tokens, keys, floor);
          for (const [k, key] of keys.entries()) {
            const answered = tokens.filter(({ token }) => token.trim() === key).map(({ logprob }) => logprob);
            expect(Number.isFinite(scores[k])).toBe(true);
            expect(scores[k]).toBeLessThanOrEqual(0);
            if (answered.length > 0) {
              const likeliest = Math.max(-1e6, ...answered);
              expect(scores[k]).toBeGreaterThanOrEqual(Math.fround(Math.min(0, likeliest)));
            } else expect(scores[k]).toBe(Math.min(Math.fround(floor), ...scores));
          }
        },
      ),
    );
  });
});
