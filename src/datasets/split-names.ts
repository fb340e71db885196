import type { Split } from './manifest.js';

const NAMES = new Map<string, Split | 'test'>([
  ['train', 'train'],
  ['training', 'train'],
  ['validation', 'validation'],
  ['valid', 'validation'],
  ['val', 'validation'],
  ['dev', 'validation'],
  ['test', 'test'],
  ['testing', 'test'],
]);

/** What a folder or an entry of a list calls a part of the data set; undefined where it is no such name. */
export function splitNamed(name: string): Split | 'test' | undefined {
  return NAMES.get(name.trim().toLowerCase());
}
