/**
 * Why a JSON value from outside is refused before anyone looks at it closely: Postgres stores no NUL and no half of a
 * surrogate pair, and what is nested or listed without end exhausts whoever walks through it.
 */
export interface JsonFault {
  /** Keys and indices on the way to it. */
  path: string[];
  fault: 'text' | 'depth' | 'length';
}

const UNSTORABLE_TEXT = /[\0\p{Cs}]/u;
/** Both are far beyond any honest value. */
const MAX_DEPTH = 32;
const MAX_LENGTH = 65_536;

/** The first fault in a value; null where all is well. */
export function findJsonFault(value: unknown, depthLeft = MAX_DEPTH): JsonFault | null {
  if (typeof value === 'string') return UNSTORABLE_TEXT.test(value) ? { path: [], fault: 'text' } : null;
  if (typeof value !== 'object' || value === null) return null;
  if (depthLeft === 0) return { path: [], fault: 'depth' };
  const keys = Array.isArray(value) && value.length > MAX_LENGTH ? null : Object.keys(value);
  if (keys === null || keys.length > MAX_LENGTH) return { path: [], fault: 'length' };
  for (const key of keys) {
    if (UNSTORABLE_TEXT.test(key)) return { path: [], fault: 'text' };
    const found = findJsonFault((value as Record<string, unknown>)[key], depthLeft - 1);
    if (found) return { path: [key, ...found.path], fault: found.fault };
  }
  return null;
}
