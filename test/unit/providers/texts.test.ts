import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { pickClasses, renderText, renderTexts, templateAndLabels, textBytes } from '../../../src/providers/texts.js';

const name = fc.string({ unit: 'grapheme', minLength: 1, maxLength: 20 });
const words = fc.string({ unit: 'grapheme', maxLength: 20 }).filter((text) => !text.includes('{'));

describe('a template', () => {
  it.each([
    ['a photo of a {}.', 'cat', null, 'a photo of a cat.'],
    ['a {}, {description}.', 'cat', 'which purrs', 'a cat, which purrs.'],
    ['a {}, {description}', 'cat', null, 'a cat,'],
    ['{description}: {}', 'cat', undefined, ': cat'],
    ['{}', '{description}', 'x', '{description}'],
    ['{} {description}', 'a', '{}', 'a {}'],
    ['a {}', '$& $1', null, 'a $& $1'],
  ])('%j of %j and %j is %j', (template, className, description, expected) => {
    expect(renderText(template, className, description)).toBe(expected);
  });

  it('has a sentence for each class, in their order', () => {
    const classes = { names: ['cat', 'dog'], descriptions: [null, 'barks'] };
    expect(renderTexts('{}: {description}', classes)).toEqual(['cat:', 'dog: barks']);
    expect(renderTexts('{}: {description}', { names: ['cat'] })).toEqual(['cat:']);
  });

  it('says the same whether a provider completes it or gets whole sentences', () => {
    const classes = fc
      .array(fc.tuple(name, fc.option(words)), { minLength: 1, maxLength: 5 })
      .map((list) => ({ names: list.map(([text]) => text), descriptions: list.map(([, text]) => text) }));
    fc.assert(
      fc.property(classes, fc.boolean(), words, words, fc.boolean(), (all, described, before, after, uses) => {
        const asked = described ? all : { names: all.names };
        const whole = `${before}{}${after}${uses ? '{description}' : ''}`;
        const { template, labels } = templateAndLabels(whole, asked);
        expect(template).not.toContain('{description}');
        expect(labels).toHaveLength(asked.names.length);
        const completed = labels.map((label) => template.replace('{}', () => label).trim());
        expect(completed).toEqual(renderTexts(whole, asked));
      }),
    );
  });

  it('keeps the class names where no description is used', () => {
    const classes = { names: ['cat', 'dog'], descriptions: ['purrs', null] };
    expect(templateAndLabels('a {}.', classes)).toEqual({ template: 'a {}.', labels: ['cat', 'dog'] });
    expect(templateAndLabels('a {}, {description}', classes)).toEqual({
      template: '{}',
      labels: ['a cat, purrs', 'a dog,'],
    });
    expect(templateAndLabels('a {} {description}', { names: ['cat'] })).toEqual({ template: 'a {}', labels: ['cat'] });
  });
});

describe('the bytes of a class', () => {
  it('are never fewer than it adds to a template', () => {
    fc.assert(
      fc.property(name, fc.option(words), words, (className, description, text) => {
        const template = `${text}{}{description}`;
        const rendered = Buffer.byteLength(renderText(template, className, description));
        const classes = { names: ['other', className], descriptions: [null, description] };
        expect(rendered).toBeLessThanOrEqual(Buffer.byteLength(text) + textBytes(classes, 1));
      }),
    );
    expect(textBytes({ names: ['é'] }, 0)).toBe(2);
  });
});

describe('pickClasses', () => {
  it('takes names with their descriptions, in the order asked for', () => {
    const classes = { names: ['a', 'b', 'c'], descriptions: ['x', null, 'z'] };
    expect(pickClasses(classes, [0, 2])).toEqual({ names: ['a', 'c'], descriptions: ['x', 'z'] });
    expect(pickClasses({ names: ['a', 'b'] }, [1])).toEqual({ names: ['b'] });
  });
});
