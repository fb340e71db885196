import { randomBytes } from 'node:crypto';

const ALPHABET = '0123456789abcdefghijklmnopqrstuvwxyz';

/** A random lower-case identifier with 24 characters (124 bits) after its prefix, for example `ftjob-4k…`. */
export function newId(prefix: string): string {
  let text = '';
  while (text.length < 24) {
    for (const byte of randomBytes(32)) {
      if (byte < 252 && text.length < 24) text += ALPHABET[byte % 36];
    }
  }
  return prefix + text;
}
