import { InvalidRequestError } from '../errors.js';
import type { DatasetLimits } from './limits.js';
import { printable } from './report.js';

/** The display name a class folder stands for: `animal-mammal` and `animal_mammal` are both "animal mammal". */
export function folderLabel(folder: string): string {
  return folder
    .normalize('NFC')
    .replace(/[_\-\s]+/gu, ' ')
    .trim();
}

/** A label as it is used: as written, in Unicode's composed form, without outer blanks. */
export function writtenLabel(label: string): string {
  return label.normalize('NFC').trim();
}

/** The classes met so far. No two of them may differ in case only: they would be one word to a model. */
export class ClassTable {
  private readonly sources = new Map<string, { label: string; source: string }>();

  constructor(private readonly limits: Pick<DatasetLimits, 'maxClasses' | 'maxLabelLength'>) {}

  /**
   * Notes that `source` (a folder, or a label as written) stands for the class `label`.
   * @param where said in errors, for example `Line 3`
   * @throws InvalidRequestError when the label is not usable, means the class of another source, or is one too many
   */
  add(label: string, source: string, where: string): void {
    const key = label.toLowerCase();
    const known = this.sources.get(key);
    if (known) {
      if (known.source === source) return;
      throw new InvalidRequestError({
        code: 'duplicate_class',
        param: 'file',
        message:
          `${quoted(known.source)} and ${quoted(source)} both name the class ${quoted(known.label)}. ` +
          'Merge them, or give them names that differ in more than case, hyphens, underscores and blanks.',
      });
    }
    this.check(label, where);
    if (this.sources.size === this.limits.maxClasses) {
      throw new InvalidRequestError({
        code: 'too_many_classes',
        param: 'file',
        message: `The data set has more than ${this.limits.maxClasses} classes. Leave some out, or upload several data sets.`,
      });
    }
    this.sources.set(key, { label, source });
  }

  /** Each class with the folder or label it came from. */
  all(): { label: string; source: string }[] {
    return [...this.sources.values()];
  }

  private check(label: string, where: string): void {
    const fault = this.faultOf(label);
    if (fault === null) return;
    throw new InvalidRequestError({
      code: 'invalid_label',
      param: 'file',
      message: `${where}: the class name ${quoted(label)} ${fault}. Give it a name with 1 to ${this.limits.maxLabelLength} characters.`,
    });
  }

  private faultOf(label: string): string | null {
    if (label === '') return 'is empty';
    if (label.length > this.limits.maxLabelLength) return `has more than ${this.limits.maxLabelLength} characters`;
    if (/[\p{Cc}\p{Cs}\u2028\u2029]/u.test(label)) return 'has control characters';
    return null;
  }
}

export function quoted(text: string): string {
  return `"${printable(text, 80)}"`;
}
