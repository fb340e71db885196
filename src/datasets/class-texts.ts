import { z } from 'zod';
import { InvalidRequestError } from '../errors.js';
import { quoted, writtenLabel } from './label-text.js';
import { hasControlCharacters } from './report.js';

const MAX_DESCRIPTION_LENGTH = 500;

/** What an uploader calls a class and says of it. */
export interface ClassText {
  name?: string;
  description?: string;
}

/** The request field to blame: `file` for the classes.json of a ZIP, `classes` for the form field. */
export type ClassTextsParam = 'file' | 'classes';

const textSchema = z.strictObject({ name: z.string().optional(), description: z.string().optional() });
const entrySchema = textSchema.extend({ folder: z.string().optional(), label: z.string().optional() });

const FORM =
  'Write {"<folder or label>": "<name>"}, {"<folder or label>": {"name": …, "description": …}}, or a list of ' +
  '{"folder": …, "name": …, "description": …}.';

/** Display names and descriptions of classes, by the folder or label that the data set has for each. */
export class ClassTexts {
  private readonly unused: Set<string>;

  private constructor(
    private readonly texts: Map<string, ClassText>,
    readonly param: ClassTextsParam,
  ) {
    this.unused = new Set(texts.keys());
  }

  /** @throws InvalidRequestError when it is not the JSON it should be */
  static parse(json: string, param: ClassTextsParam): ClassTexts {
    let value: unknown;
    try {
      value = JSON.parse(json);
    } catch {
      throw invalid(param, `is not valid JSON. ${FORM}`);
    }
    const texts = new Map<string, ClassText>();
    for (const [key, text] of readEntries(value, param)) {
      const label = writtenLabel(key);
      if (texts.has(label)) throw invalid(param, `has ${quoted(label)} twice. Say each class once.`);
      texts.set(label, tidy(label, text, param));
    }
    return new ClassTexts(texts, param);
  }

  /** What is said of the class that comes from a folder, or from a label as written. */
  find(source: string, label: string): ClassText {
    const key = [writtenLabel(source), label].find((name) => this.texts.has(name));
    if (key === undefined) return {};
    this.unused.delete(key);
    return this.texts.get(key)!;
  }

  /** @throws InvalidRequestError naming a class that nobody asked for */
  requireAllUsed(): void {
    const [first] = this.unused;
    if (first === undefined) return;
    throw new InvalidRequestError({
      code: 'unknown_class',
      param: this.param,
      message:
        `${documentOf(this.param)} names the class ${quoted(first)}, but no folder and no label of the data set is ` +
        'called so. Correct the name, or leave it out.',
    });
  }
}

/**
 * A description as it is kept: in Unicode's composed form, without outer blanks.
 * @param what it is, for the error
 * @throws InvalidRequestError when it is not 1 to 500 printable characters
 */
export function checkedDescription(text: string, what: string, param: ClassTextsParam): string {
  const description = writtenLabel(text);
  if (description === '' || description.length > MAX_DESCRIPTION_LENGTH || hasControlCharacters(description)) {
    throw new InvalidRequestError({
      code: 'invalid_description',
      param,
      message: `${what} must be 1 to ${MAX_DESCRIPTION_LENGTH} printable characters, without line breaks.`,
    });
  }
  return description;
}

function readEntries(value: unknown, param: ClassTextsParam): [string, ClassText][] {
  if (Array.isArray(value)) return value.map((entry, index) => readListed(entry, `entry ${index}`, param));
  if (typeof value !== 'object' || value === null) throw invalid(param, `is neither an object nor a list. ${FORM}`);
  return Object.entries(value).map(([key, text]) => {
    if (typeof text === 'string') return [key, { name: text }];
    const parsed = textSchema.safeParse(text);
    if (!parsed.success) throw invalid(param, `has something else for ${quoted(key)}. ${FORM}`);
    return [key, parsed.data];
  });
}

function readListed(entry: unknown, where: string, param: ClassTextsParam): [string, ClassText] {
  const parsed = entrySchema.safeParse(entry);
  const { folder, label, ...text } = parsed.data ?? {};
  const key = folder ?? label;
  if (!parsed.success || key === undefined || (folder !== undefined && label !== undefined)) {
    throw invalid(param, `has something else for ${where}. ${FORM}`);
  }
  return [key, text];
}

function tidy(label: string, { name, description }: ClassText, param: ClassTextsParam): ClassText {
  return {
    ...(name === undefined ? {} : { name: writtenLabel(name) }),
    ...(description === undefined
      ? {}
      : { description: checkedDescription(description, `The description of ${quoted(label)}`, param) }),
  };
}

function invalid(param: ClassTextsParam, fault: string): InvalidRequestError {
  return new InvalidRequestError({ code: 'invalid_classes', param, message: `${documentOf(param)} ${fault}` });
}

function documentOf(param: ClassTextsParam): string {
  return param === 'file' ? 'classes.json' : 'The field "classes"';
}
