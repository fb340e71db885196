/** Why an entry is not part of the data set. */
export const REJECTION_REASONS = [
  'nested_too_deep',
  'no_class_folder',
  'image_missing',
  'image_empty',
  'image_too_large',
  'image_too_many_pixels',
  'image_undecodable',
  'unsupported_image_format',
  'unsupported_compression',
  'entry_corrupt',
  'invalid_base64',
  'image_url_refused',
  'image_url_unreachable',
  'conflicting_label',
  'validation_leak',
] as const;
export type RejectionReason = (typeof REJECTION_REASONS)[number];

export interface Rejection {
  /** The entry's name in the ZIP, or `line 12` of a list, with the image's URL where it has one. */
  entry: string;
  reason: RejectionReason;
  message: string;
}

/** What was made of an upload; stored with the file and shown to the uploader. */
export interface DatasetReport {
  images: { train: number; validation: number };
  /** In label order; `folder` is the folder or the label as written, where the name is another. */
  classes: { name: string; folder?: string; description?: string; train: number; validation: number }[];
  /** The first ones by name; `rejected_count` counts them all. */
  rejected: Rejection[];
  rejected_count: number;
  /** Entries that are no part of a data set: system files, loose documents, test images. */
  ignored_count: number;
  /** Further copies of an image in the same class and split. */
  duplicates: number;
  notes: string[];
}

/** Gathers what the report says about entries that did not make it. */
export class EntryLog {
  readonly rejected: Rejection[] = [];
  ignored = 0;
  duplicates = 0;
  readonly notes: string[] = [];

  reject(entry: string, reason: RejectionReason, message: string): void {
    this.rejected.push({ entry: printable(entry), reason, message });
  }
}

/** A name as it can be put into messages and stored in Postgres, whatever a hostile file called itself. */
export function printable(text: string, maxLength = 200): string {
  const clean = text.replace(/[\p{Cc}\p{Cs}\u2028\u2029]/gu, '\ufffd');
  return clean.length > maxLength ? `${clean.slice(0, maxLength - 1).replace(/\p{Cs}$/u, '')}…` : clean;
}

export function hasControlCharacters(text: string): boolean {
  return /[\p{Cc}\p{Cs}\u2028\u2029]/u.test(text);
}

/** Orders strings by Unicode code point, on every machine and in every locale alike. */
export function compareCodePoints(a: string, b: string): number {
  const length = Math.min(a.length, b.length);
  for (let i = 0; i < length; i++) {
    const x = a.charCodeAt(i);
    const y = b.charCodeAt(i);
    if (x !== y) return rank(x) - rank(y);
  }
  return a.length - b.length;
}

/** Surrogates stand for code points above all others, though their code units are not the highest. */
function rank(unit: number): number {
  return unit >= 0xd800 && unit <= 0xdfff ? unit + 0x10000 : unit;
}
