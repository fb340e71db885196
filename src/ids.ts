import { customAlphabet } from 'nanoid';

const random = customAlphabet('0123456789abcdefghijklmnopqrstuvwxyz', 24);

/** A random lower-case identifier with 24 characters (124 bits) after its prefix, for example `ftjob-4k…`. */
export function newId(prefix: string): string {
  return prefix + random();
}
