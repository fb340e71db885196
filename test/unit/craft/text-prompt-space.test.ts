import { describe, expect, it } from 'vitest';
import { InvalidProblemError } from '../../../src/craft/errors.js';
import { TextPromptSpace } from '../../../src/craft/text-prompt-space.js';
import { CONTEXT_WORDS, TEMPLATES } from '../../../src/craft/text-vocabulary.js';

const promptsOf = (space: TextPromptSpace) => space.templates.map((choices) => space.compose(choices));

describe('the shipped vocabulary', () => {
  it('has distinct templates with one class slot and distinct words', () => {
    expect(new Set(TEMPLATES).size).toBe(TEMPLATES.length);
    expect(TEMPLATES.filter((template) => template.split('{}').length !== 2)).toEqual([]);
    expect(new Set(CONTEXT_WORDS).size).toBe(CONTEXT_WORDS.length);
  });
});

describe('TextPromptSpace', () => {
  it('gives every shipped template back as it is, the usual one first', () => {
    expect(promptsOf(new TextPromptSpace({ descriptions: false }))).toEqual(TEMPLATES);
  });

  it('puts the start template first, then the user’s, each only once', () => {
    const templates = ['a {} seen from above', 'a drawing of a {}.', '{}  on\tfilm'];
    const prompts = promptsOf(new TextPromptSpace({ descriptions: false, startTemplate: 'my {}!', templates }));
    expect(prompts.slice(0, 4)).toEqual(['my {}!', 'a {} seen from above', 'a drawing of a {}.', '{} on film']);
    expect(new Set(prompts).size).toBe(prompts.length);
    expect(prompts.length).toBe(TEMPLATES.length + 3);
  });

  it('puts words between the parts of a template', () => {
    const space = new TextPromptSpace({ descriptions: false, words: ['stained glass'] });
    const word = (text: string) => ['', ...CONTEXT_WORDS, 'stained glass'].indexOf(text);
    const index = TEMPLATES.indexOf('a photo of a {}, a type of pet.');
    const [lead, tail, description] = space.templates[index];
    const compose = (...words: string[]) => space.compose([lead, tail, description, ...words.map(word)]);
    expect(compose('', '', '')).toBe('a photo of a {}, a type of pet.');
    expect(compose('stained glass', '', '')).toBe('a photo of a stained glass {}, a type of pet.');
    expect(compose('', 'icon', 'design')).toBe('a photo of a {} icon design, a type of pet.');
    expect(compose('', '', 'icon')).toBe(compose('', 'icon', ''));
  });

  it('adds the user’s words to every word slot', () => {
    const without = new TextPromptSpace({ descriptions: false });
    const space = new TextPromptSpace({ descriptions: false, words: ['stained glass', 'photo', 'bronze '] });
    expect(space.slotSizes.slice(3)).toEqual(without.slotSizes.slice(3).map((size) => size + 2));
  });

  it('offers the phrases for descriptions at the start template first', () => {
    const prompts = promptsOf(new TextPromptSpace({ descriptions: true }));
    expect(prompts.slice(0, 3)).toEqual([
      'a photo of a {}.',
      'a photo of a {}, {description}.',
      'a photo of a {}: {description}.',
    ]);
    expect(promptsOf(new TextPromptSpace({ descriptions: false })).join()).not.toContain('{description}');
  });

  it('lets a template’s own description stand alone, also where two templates bring one each', () => {
    const templates = ['{description}: a {}.', 'a {} ({description})'];
    const space = new TextPromptSpace({ descriptions: true, templates });
    const [before, after] = templates.map((template) => promptsOf(space).indexOf(template));
    const [lead] = space.templates[before];
    const [, tail] = space.templates[after];
    expect(space.compose(space.templates[before].with(2, 1))).toBe('{description}: a {}.');
    expect(space.compose(space.templates[before].with(1, tail))).toBe('{description}: a {} ()');
    expect(space.compose(space.templates[after].with(0, lead))).toBe('{description}: a {} ()');
  });

  it.each([
    [{ templates: ['a photo of a {}.', 'a photo'] }, /templates\[1\] must hold \{\} exactly once/],
    [{ templates: ['{} and {}'] }, /templates\[0\] must hold \{\} exactly once/],
    [{ startTemplate: '{} {class}' }, /startTemplate has a brace/],
    [
      { startTemplate: '{}: {description}', descriptions: false },
      /startTemplate uses \{description\}.*no descriptions/,
    ],
    [{ templates: ['{description} {} {description}'] }, /templates\[0\].*at most once/],
    [{ templates: [`{} ${'x'.repeat(1000)}`] }, /templates\[0\] is too long/],
    [{ words: ['red', ' '] }, /words\[1\] must be a word/],
    [{ words: ['{}'] }, /words\[0\] must be a word/],
  ])('refuses %j', (options, message) => {
    const make = () => new TextPromptSpace({ descriptions: true, ...options });
    expect(make).toThrow(InvalidProblemError);
    expect(make).toThrow(message);
  });
});
