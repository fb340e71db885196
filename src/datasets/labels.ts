import { InvalidRequestError } from '../errors.js';
import { type ClassTexts, type ClassTextsParam, checkedDescription } from './class-texts.js';
import { quoted } from './label-text.js';
import type { DatasetLimits } from './limits.js';
import { hasControlCharacters } from './report.js';

/** A class as it goes into the data set. */
export interface ClassEntry {
  /** Its display name. */
  label: string;
  /** The folder, or the label as written, that it comes from. */
  source: string;
  description: string | null;
}

interface NamedClass extends ClassEntry {
  /** Where its name comes from: the request field to blame for it. */
  param: ClassTextsParam;
}

/** The classes met so far. No two of them may differ in case only: they would be one word to a model. */
export class ClassTable {
  private readonly bySource = new Map<string, NamedClass>();
  private readonly byName = new Map<string, NamedClass>();
  private readonly listed = new Map<string, { description: string; where: string }>();

  /** @param texts what the uploader calls and says of the classes; later ones win */
  constructor(
    private readonly limits: Pick<DatasetLimits, 'maxClasses' | 'maxLabelLength'>,
    private readonly texts: ClassTexts[] = [],
  ) {}

  /**
   * Notes a class.
   * @param label what it is called where the uploader gives it no other name
   * @param source the folder, or the label as written
   * @param where said in errors, for example `Line 3`
   * @returns its display name
   * @throws InvalidRequestError when the name is not usable, is that of another source, or is one too many
   */
  add(label: string, source: string, where: string): string {
    const known = this.bySource.get(source);
    if (known) return known.label;
    const entry: NamedClass = { label, source, description: null, param: 'file' };
    for (const texts of this.texts) {
      const { name, description } = texts.find(source, label);
      if (name !== undefined) Object.assign(entry, { label: name, param: texts.param });
      if (description !== undefined) entry.description = description;
    }
    this.refuseTaken(entry);
    this.check(entry, where);
    if (this.bySource.size === this.limits.maxClasses) {
      throw new InvalidRequestError({
        code: 'too_many_classes',
        param: 'file',
        message: `The data set has more than ${this.limits.maxClasses} classes. Leave some out, or upload several data sets.`,
      });
    }
    this.bySource.set(source, entry);
    this.byName.set(entry.label.toLowerCase(), entry);
    return entry.label;
  }

  /**
   * Notes what an entry of a list says of its class; the uploader's own word on the class goes before it.
   * @throws InvalidRequestError when another entry says something else
   */
  describe(source: string, text: string, where: string): void {
    const description = checkedDescription(text, `${where}: the description`, 'file');
    const known = this.listed.get(source);
    if (!known) {
      this.listed.set(source, { description, where });
    } else if (known.description !== description) {
      throw new InvalidRequestError({
        code: 'conflicting_description',
        param: 'file',
        message: `${where} describes the class ${quoted(source)} otherwise than ${known.where}. Describe it alike everywhere.`,
      });
    }
  }

  /**
   * All classes, when no more are to come.
   * @throws InvalidRequestError when the uploader describes a class that there is not
   */
  all(): ClassEntry[] {
    for (const texts of this.texts) texts.requireAllUsed();
    return [...this.bySource.values()].map(({ label, source, description }) => ({
      label,
      source,
      description: description ?? this.listed.get(source)?.description ?? null,
    }));
  }

  private refuseTaken({ label, source, param }: NamedClass): void {
    const other = this.byName.get(label.toLowerCase());
    if (!other) return;
    const isOfField = [param, other.param].includes('classes');
    throw new InvalidRequestError({
      code: 'duplicate_class',
      param: isOfField ? 'classes' : 'file',
      message:
        `${quoted(other.source)} and ${quoted(source)} both name the class ${quoted(other.label)}. ` +
        (isOfField
          ? 'Give them names in the field "classes" that differ in more than case, or merge them.'
          : 'Merge them, or give them names that differ in more than case, hyphens, underscores and blanks.'),
    });
  }

  private check({ label, param }: NamedClass, where: string): void {
    const fault = this.faultOf(label);
    if (fault === null) return;
    throw new InvalidRequestError({
      code: 'invalid_label',
      param,
      message: `${where}: the class name ${quoted(label)} ${fault}. Give it a name with 1 to ${this.limits.maxLabelLength} characters.`,
    });
  }

  private faultOf(label: string): string | null {
    if (label === '') return 'is empty';
    if (label.length > this.limits.maxLabelLength) return `has more than ${this.limits.maxLabelLength} characters`;
    if (hasControlCharacters(label)) return 'has control characters';
    return null;
  }
}
