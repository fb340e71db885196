/** Why a JSON value from outside cannot be kept: Postgres stores no NUL and no half of a surrogate pair. */
export interface JsonFault {
  /** Keys and indices on the way to it. */
  path: string[];
  fault: 'text' | 'depth';
}

const UNSTORABLE_TEXT = /[\0\p{Cs}]/u;
/** Deeper than any honest value, and far from where recursion ends. */
const MAX_DEPTH = 32;

/** Finds the first text in a value that cannot be stored, or nesting without end; null where all is well. */
export function findJsonFault(value: unknown, depthLeft = MAX_DEPTH): JsonFault | null {
  if (typeof value === 'string') return UNSTORABLE_TEXT.test(value) ? { path: [], fault: 'text' } : null;
  if (typeof value !== 'object' || value === null) return null;
  if (depthLeft === 0) return { path: [], fault: 'depth' };
  for (const [key, item] of Object.entries(value)) {
    if (UNSTORABLE_TEXT.test(key)) return { path: [], fault: 'text' };
    const found = findJsonFault(item, depthLeft - 1);
    if (found) return { path: [key, ...found.path], fault: found.fault };
  }
  return null;
}
