import { InvalidProblemError } from './errors.js';

/** Where the class name stands in a template. */
export const CLASS_SLOT = '{}';
/** Where the description of a class stands in a template. */
export const DESCRIPTION_SLOT = '{description}';
/** Characters of a template at most. */
const MAX_TEMPLATE_LENGTH = 1000;

/** One space for every run of white space, none at the ends: the form in which templates are compared and sent. */
export function tidyTemplate(text: string): string {
  return text.replace(/\s+/g, ' ').trim();
}

/** How often `part` occurs in `text`. */
export function occurrences(text: string, part: string): number {
  return text.split(part).length - 1;
}

/**
 * The tidied template, with exactly one `{}`, at most one `{description}` and no other brace.
 * @param field what to blame, such as `templates[3]`
 * @param descriptions whether the classes have descriptions
 * @throws InvalidProblemError
 */
export function checkedTemplate(template: string, field: string, descriptions: boolean): string {
  const tidied = tidyTemplate(template);
  const refuse = (problem: string): never => {
    throw new InvalidProblemError(`${field} ${problem}, such as "a photo of a {}."`);
  };
  if (tidied.length > MAX_TEMPLATE_LENGTH) refuse(`is too long; write at most ${MAX_TEMPLATE_LENGTH} characters`);
  if (occurrences(tidied, CLASS_SLOT) !== 1) refuse(`must hold {} exactly once, where the class name goes`);
  const described = occurrences(tidied, DESCRIPTION_SLOT);
  if (described > 1) refuse(`must hold ${DESCRIPTION_SLOT} at most once`);
  if (described === 1 && !descriptions) {
    refuse(`uses ${DESCRIPTION_SLOT}, but the classes have no descriptions; add them, or write a template without`);
  }
  if (/[{}]/.test(tidied.replace(CLASS_SLOT, '').replace(DESCRIPTION_SLOT, ''))) {
    refuse(`has a brace besides {} and ${DESCRIPTION_SLOT}; remove it`);
  }
  return tidied;
}

/**
 * The tidied context word (or short phrase), without braces.
 * @param field what to blame, such as `words[3]`
 * @throws InvalidProblemError
 */
export function checkedWord(word: string, field: string): string {
  const tidied = tidyTemplate(word);
  if (tidied === '' || /[{}]/.test(tidied) || tidied.length > MAX_TEMPLATE_LENGTH) {
    throw new InvalidProblemError(
      `${field} must be a word or phrase of 1 to ${MAX_TEMPLATE_LENGTH} characters without braces.`,
    );
  }
  return tidied;
}
