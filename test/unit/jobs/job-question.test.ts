import { describe, expect, it } from 'vitest';
import { callTextsOf, classTextsOf, promptProblemOf, startPromptOf } from '../../../src/jobs/job-question.js';
import type { ProviderCapabilities } from '../../../src/providers/provider.js';

const CAPABILITIES: ProviderCapabilities = {
  promptSpace: 'soft',
  contextTokens: 2,
  contextWidth: 2,
  initialContext: Buffer.from(Float32Array.of(1, 2, 3, 4).buffer).toString('base64'),
  defaultTemplate: 'an image of a {}.',
  maxImagesPerRequest: null,
  maxPromptsPerRequest: null,
  maxClassesPerRequest: null,
  maxTextsPerRequest: null,
  maxLogitsPerRequest: null,
  maxRequestBytes: null,
  returns: 'logits',
  imageReferences: false,
  idempotency: null,
};
type Method = Parameters<typeof promptProblemOf>[1];
const method = (prompts?: object) => ({ craft: { prompts } }) as Method;
const NAMES = { names: ['cat', 'dog'] };

describe('the classes of a job', () => {
  it('have descriptions where one of them has', () => {
    expect(classTextsOf({ classes: ['cat', 'dog'], descriptions: [null, 'barks'] })).toEqual({
      names: ['cat', 'dog'],
      descriptions: [null, 'barks'],
    });
    expect(classTextsOf({ classes: ['cat', 'dog'], descriptions: [null, null] })).toEqual(NAMES);
  });
});

describe('a job with soft prompts', () => {
  const problem = promptProblemOf('soft', method(), CAPABILITIES, NAMES);

  it("starts from the provider's own context", () => {
    expect(problem).toEqual({
      space: 'soft',
      contextTokens: 2,
      contextWidth: 2,
      initialContext: Float32Array.of(1, 2, 3, 4),
    });
    expect(startPromptOf(problem)).toEqual({ kind: 'context', count: 1, values: Float32Array.of(1, 2, 3, 4) });
  });

  it('starts from zeros where the provider names none', () => {
    const none = promptProblemOf('soft', method(), { ...CAPABILITIES, initialContext: null }, NAMES);
    expect(none).toMatchObject({ initialContext: new Float32Array(4) });
  });

  it('sends no templates', () => {
    expect(callTextsOf(problem, NAMES)).toEqual({ classes: NAMES, templateBytes: 0 });
  });
});

describe('a job with text prompts', () => {
  it("starts from the provider's template, and searches what the user adds", () => {
    const own = { templates: ['my {}'], words: ['shiny'] };
    const described = { ...NAMES, descriptions: ['purrs', null] };
    const problem = promptProblemOf('text', method(own), CAPABILITIES, described);
    expect(problem).toEqual({
      space: 'text',
      startTemplate: 'an image of a {}.',
      templates: ['my {}'],
      words: ['shiny'],
      descriptions: true,
    });
    expect(startPromptOf(problem)).toEqual({ kind: 'template', count: 1, templates: ['an image of a {}.'] });
    expect(promptProblemOf('text', method(), CAPABILITIES, NAMES)).toMatchObject({
      templates: [],
      words: [],
      descriptions: false,
    });
  });

  it('leaves room for its longest template', () => {
    const problem = promptProblemOf('text', method(), CAPABILITIES, NAMES);
    const { classes, templateBytes } = callTextsOf(problem, NAMES);
    expect(classes).toEqual(NAMES);
    expect(templateBytes).toBeGreaterThanOrEqual(Buffer.byteLength('an image of a {}.'));
  });
});
