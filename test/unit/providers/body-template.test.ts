import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { fillTemplate, placeholdersOf } from '../../../src/providers/body-template.js';

const BODY = {
  model: '{{model}}',
  input: { image: 'data:image/png;base64,{{ image_base64 }}', n: 3, flag: true, none: null },
  labels: '{{labels}}',
  prompt: ['Which of {{labels}}?', { again: '{{model}} {{model}}' }],
};

describe('placeholdersOf', () => {
  it('finds them wherever they are, each once', () => {
    expect([...placeholdersOf(BODY)].sort()).toEqual(['image_base64', 'labels', 'model']);
    expect(placeholdersOf({ '{{key}}': 'text', a: '{ {b} }', c: '{{}}', d: '{{two words}}' })).toEqual(new Set());
  });
});

describe('fillTemplate', () => {
  it('puts lists where a text is nothing else, joins them in other text, and leaves the rest', () => {
    const values = { model: 'clip', image_base64: 'AAAA', labels: ['cat', 'dog'] };
    expect(fillTemplate(BODY, values)).toEqual({
      model: 'clip',
      input: { image: 'data:image/png;base64,AAAA', n: 3, flag: true, none: null },
      labels: ['cat', 'dog'],
      prompt: ['Which of cat,dog?', { again: 'clip clip' }],
    });
  });

  it('leaves what has no value, and does not change the template', () => {
    const before = structuredClone(BODY);
    expect(fillTemplate(BODY, {})).toEqual(before);
    expect(fillTemplate(BODY, { model: 'clip' })).toMatchObject({ model: 'clip', labels: '{{labels}}' });
    expect(BODY).toEqual(before);
  });

  it('does not look for placeholders in what it fills in, nor for patterns', () => {
    expect(fillTemplate('{{a}}', { a: '{{b}}', b: 'x' })).toBe('{{b}}');
    expect(fillTemplate('({{a}})', { a: '{{b}}', b: 'x' })).toBe('({{b}})');
    expect(fillTemplate('({{a}})', { a: '$& $1' })).toBe('($& $1)');
  });

  it('takes the names of no properties that every object has', () => {
    expect(fillTemplate('{{toString}} {{constructor}}', {})).toBe('{{toString}} {{constructor}}');
    expect(fillTemplate('{{constructor}}', {})).toBe('{{constructor}}');
  });

  it('leaves JSON without placeholders as it is', () => {
    fc.assert(
      fc.property(fc.jsonValue(), (body) => {
        fc.pre(placeholdersOf(body).size === 0);
        expect(JSON.stringify(fillTemplate(body, { model: 'x' }))).toBe(JSON.stringify(body));
      }),
    );
  });
});
