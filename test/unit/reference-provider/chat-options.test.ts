import { describe, expect, it } from 'vitest';
import { readOptions } from '../../../src/reference-provider/openai/chat-options.js';

describe('readOptions', () => {
  it.each([
    ['A: cat\nB: dog', ['A', 'cat', 'B', 'dog']],
    ['a) cat\r\nb) dog\r\n', ['a', 'cat', 'b', 'dog']],
    ['1. cat\n 12. a dog. \n\n', ['1', 'cat', '12', 'a dog.']],
    ['AB: 3.5 mm: jack\n1000: x', ['AB', '3.5 mm: jack', '1000', 'x']],
    ['Which of these?\nA: a photo of a {}.\nB: {}\nAnswer: with one letter.', ['A', 'a photo of a {}.', 'B', '{}']],
    ['A: cat\n- C: no option\nB:no option\nB: dog', ['A', 'cat', 'B', 'dog']],
  ])('reads %j', (text, expected) => {
    expect(readOptions(text).flatMap(({ key, text }) => [key, text])).toEqual(expected);
  });

  it.each([
    ['no options here', /^0 options found/],
    ['A: alone', /^1 options found/],
    ['A: cat\nB: dog\nA: bird', /^The option A is there twice/],
    [`A: cat\nB: ${'é'.repeat(513)}`, /^The option B is longer than 1024 bytes/],
    [Array.from({ length: 4097 }, (_, i) => `${i}: x`).join('\n'), /^4097 options found, 2 to 4096/],
  ])('refuses %.30j', (text, message) => {
    expect(() => readOptions(text)).toThrow(
      expect.objectContaining({ status: 400, message: expect.stringMatching(message) }),
    );
  });
});
