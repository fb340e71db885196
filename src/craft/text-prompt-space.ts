import {
  CLASS_SLOT,
  checkedTemplate,
  checkedWord,
  DESCRIPTION_SLOT,
  occurrences,
  tidyTemplate,
} from './text-template.js';
import { CONTEXT_WORDS, DESCRIPTION_PHRASES, TEMPLATES } from './text-vocabulary.js';

/** One value per slot: an index into the slot's vocabulary. */
export type Choices = readonly number[];

/** A finite set of prompts, as a search sees it. */
export interface PromptSpace {
  /** How many values each slot has; at least one slot, at least 1 value each. */
  readonly slotSizes: readonly number[];
  /** A number per slot: slots of the same number have the same values, and what one teaches about a value holds for all. */
  readonly slotVocabularies: readonly number[];
  /** Prompts worth trying first, best guess first: the first one is where the search starts. Not empty. */
  readonly templates: readonly Choices[];
  /** The prompt of some choices. Different choices may give the same prompt. */
  compose(choices: Choices): string;
}

export interface TextPromptSpaceOptions {
  /** The user's own templates, in addition to the shipped ones and tried before them. */
  templates?: string[];
  /** The user's own context words or short phrases, in addition to the shipped ones. */
  words?: string[];
  /** Whether the classes have descriptions, so that prompts may use `{description}`. */
  descriptions: boolean;
  /** Where the search starts; the first shipped template where absent. */
  startTemplate?: string;
}

const WORDS_BEFORE = 1;
const WORDS_AFTER = 2;
// The slots in their order: what stands before the class name, what stands after it, the description, the words.
const LEAD = 0;
const TAIL = 1;
const DESCRIPTION = 2;
const FIRST_WORD = 3;
/** The value of a word slot or description slot that adds nothing. */
const NOTHING = 0;

/**
 * The templates that can be made of slots around the class name: the beginning of one known template, a context word or
 * none, `{}`, up to two context words, a description or none, and the end of a known template. Every known template is
 * a prompt of the space, so the search can start from the best of them and change it word by word.
 */
export class TextPromptSpace implements PromptSpace {
  readonly slotSizes: readonly number[];
  readonly slotVocabularies: readonly number[];
  readonly templates: readonly Choices[];
  private readonly leads: readonly string[];
  private readonly tails: readonly string[];
  private readonly descriptions: readonly string[];
  private readonly words: readonly string[];

  /** @throws InvalidProblemError naming `templates[i]`, `words[i]` or `startTemplate` */
  constructor({ templates = [], words = [], descriptions, startTemplate = TEMPLATES[0] }: TextPromptSpaceOptions) {
    const known = distinct([
      checkedTemplate(startTemplate, 'startTemplate', descriptions),
      ...templates.map((template, i) => checkedTemplate(template, `templates[${i}]`, descriptions)),
      ...TEMPLATES,
    ]);
    const parts = known.map(splitTemplate);
    this.leads = distinct(parts.map(({ lead }) => lead));
    this.tails = distinct(parts.map(({ tail }) => tail));
    this.descriptions = descriptions ? ['', ...DESCRIPTION_PHRASES] : [''];
    this.words = distinct(['', ...CONTEXT_WORDS, ...words.map((word, i) => checkedWord(word, `words[${i}]`))]);
    const everyWordSlot = (value: number) => Array<number>(WORDS_BEFORE + WORDS_AFTER).fill(value);
    this.slotSizes = [
      this.leads.length,
      this.tails.length,
      this.descriptions.length,
      ...everyWordSlot(this.words.length),
    ];
    this.slotVocabularies = [LEAD, TAIL, DESCRIPTION, ...everyWordSlot(FIRST_WORD)];
    const choices = parts.map(({ lead, tail }) => {
      return [this.leads.indexOf(lead), this.tails.indexOf(tail), NOTHING, ...everyWordSlot(NOTHING)];
    });
    this.templates = [choices[0], ...this.described(choices[0]), ...choices.slice(1)];
  }

  /** All that choices are indices into: a search goes on only where it is the same. */
  get vocabulary(): string {
    return JSON.stringify([this.leads, this.tails, this.descriptions, this.words]);
  }

  /** Bytes of the longest template, with the places for names and descriptions, at most. */
  get longestTemplateBytes(): number {
    const longest = (texts: readonly string[]) =>
      Math.max(...texts.map((text) => new TextEncoder().encode(text).length));
    const words = (WORDS_BEFORE + WORDS_AFTER) * (longest(this.words) + 1);
    return longest(this.leads) + longest(this.tails) + longest(this.descriptions) + words + CLASS_SLOT.length;
  }

  /** The start template with each of the description phrases. */
  private described(start: Choices): Choices[] {
    if (this.compose(start).includes(DESCRIPTION_SLOT)) return [];
    return this.descriptions.slice(1).map((_, i) => start.with(DESCRIPTION, i + 1));
  }

  /** @returns a template with exactly one `{}` and at most one `{description}` */
  compose(choices: Choices): string {
    const lead = this.leads[choices[LEAD]];
    const tail = this.tails[choices[TAIL]];
    // A user's template may bring a description of its own, which then stands alone.
    const described = occurrences(lead + tail, DESCRIPTION_SLOT);
    const description = described === 0 ? this.descriptions[choices[DESCRIPTION]] : '';
    const end = described === 2 ? tail.replace(DESCRIPTION_SLOT, '') : tail;
    const word = (slot: number) => this.words[choices[FIRST_WORD + slot]];
    const before = Array.from({ length: WORDS_BEFORE }, (_, slot) => `${word(slot)} `);
    const after = Array.from({ length: WORDS_AFTER }, (_, slot) => ` ${word(WORDS_BEFORE + slot)}`);
    const beginning = tidyTemplate(before.join('')) === '' ? lead : `${lead}${before.join('')}`;
    return tidyTemplate(`${beginning}${CLASS_SLOT}${after.join('').trimEnd()}${description}${end}`);
  }
}

/** What stands before and after the class name, white space included. */
function splitTemplate(template: string): { lead: string; tail: string } {
  const at = template.indexOf(CLASS_SLOT);
  return { lead: template.slice(0, at), tail: template.slice(at + CLASS_SLOT.length) };
}

function distinct(values: string[]): string[] {
  return [...new Set(values)];
}
