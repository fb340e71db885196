import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Random } from '../../../src/craft/random.js';
import { TextPromptSpace } from '../../../src/craft/text-prompt-space.js';
import { TextSearch, type TextSearchOptions } from '../../../src/craft/text-search.js';

const count = (text: string, part: string) => text.split(part).length - 1;
/** Text without braces, and with something to read. */
const plain = fc.string({ maxLength: 12, unit: 'grapheme' }).filter((text) => !/[{}]/.test(text));
const word = plain.filter((text) => text.trim() !== '');
const template = fc.tuple(plain, plain).map(([before, after]) => `${before}{}${after}`);
const describedTemplate = fc
  .tuple(plain, plain, plain, fc.boolean())
  .map(([a, b, c, first]) => (first ? `${a}{description}${b}{}${c}` : `${a}{}${b}{description}${c}`));

const spaces = fc.oneof(
  fc.record({
    descriptions: fc.constant(true),
    templates: fc.array(fc.oneof(template, describedTemplate), { maxLength: 4 }),
    words: fc.array(word, { maxLength: 4 }),
  }),
  fc.record({
    descriptions: fc.constant(false),
    templates: fc.array(template, { maxLength: 4 }),
    words: fc.array(word, { maxLength: 4 }),
  }),
);

function choicesOf(space: TextPromptSpace, seed: number): number[] {
  const random = Random.stream(seed, 'choices');
  return space.slotSizes.map((size) => random.integer(size));
}

describe('text prompts', () => {
  it('always have one class slot and at most one description, and none where the classes have none', () => {
    fc.assert(
      fc.property(spaces, fc.integer({ min: 0, max: 1e9 }), (options, seed) => {
        const space = new TextPromptSpace(options);
        const prompts = [choicesOf(space, seed), ...space.templates].map((choices) => space.compose(choices));
        for (const prompt of prompts) {
          expect(count(prompt, '{}')).toBe(1);
          expect(count(prompt, '{description}')).toBeLessThanOrEqual(options.descriptions ? 1 : 0);
          expect(prompt.replace('{}', '').replace('{description}', '')).not.toMatch(/[{}]/);
          expect(prompt).toBe(prompt.trim());
        }
      }),
      { numRuns: 200 },
    );
  });

  it('are distinct in a generation, new in each, and go on from any state bit for bit', () => {
    const cases = fc.record({
      seed: fc.integer({ min: -1e9, max: 1e9 }),
      populationSize: fc.integer({ min: 4, max: 30 }),
      before: fc.integer({ min: 0, max: 12 }),
      after: fc.integer({ min: 1, max: 8 }),
      descriptions: fc.boolean(),
      refresh: fc.boolean(),
    });
    fc.assert(
      fc.property(cases, ({ seed, populationSize, before, after, descriptions, refresh }) => {
        const space = new TextPromptSpace({ descriptions });
        const options: TextSearchOptions = { space, populationSize, plannedGenerations: 12, seed };
        const loss = (prompt: string, generation: number) => {
          return Random.stream(seed, prompt).uniform() * (refresh ? 1 + generation / 10 : 1);
        };
        const run = (search: TextSearch, generations: number) => {
          return Array.from({ length: generations }, () => {
            const prompts = search.ask();
            const current = (prompt: string) => loss(prompt, search.generation);
            search.tell(prompts.map(current), refresh ? search.elites.map(current) : undefined);
            return [...prompts, search.centre, search.spread];
          });
        };
        const search = new TextSearch(options);
        run(search, before);
        const state = structuredClone(search.state());
        const resumed = new TextSearch(options, state);
        expect(resumed.centre).toBe(search.centre);
        const continued = run(search, after);
        expect(run(resumed, after)).toEqual(continued);
        expect(resumed.state()).toEqual(search.state());
        const asked = continued.flatMap((row) => row.slice(0, populationSize));
        expect(new Set(asked).size).toBe(asked.length);
        expect(search.state().fitness).toHaveLength((before + after) * populationSize);
      }),
      { numRuns: 30 },
    );
  });
});
