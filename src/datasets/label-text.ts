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

/** A label as errors quote it. */
export function quoted(text: string): string {
  return `"${printable(text, 80)}"`;
}
