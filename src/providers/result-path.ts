/**
 * Paths into a JSON answer, a small part of JSONPath (RFC 9535): `$`, then any of `.name`, `["name"]`, `[0]` and `[*]`.
 */

const STEP = /\.([A-Za-z_][\w-]*)|\[(\d{1,7})\]|\[(\*)\]|\["([^"\\\]]{1,200})"\]/y;
const ANY: unique symbol = Symbol('any');

function parse(path: string): (string | number | typeof ANY)[] | null {
  if (!path.startsWith('$')) return null;
  const steps: (string | number | typeof ANY)[] = [];
  STEP.lastIndex = 1;
  while (STEP.lastIndex < path.length) {
    const match = STEP.exec(path);
    if (!match) return null;
    const [, name, index, any, quoted] = match;
    steps.push(any ? ANY : index !== undefined ? Number(index) : (name ?? quoted));
  }
  return steps;
}

export function isResultPath(path: string): boolean {
  return parse(path) !== null;
}

/** All that a path leads to, lists taken apart in order; nothing where it leads nowhere. */
export function select(value: unknown, path: string): unknown[] {
  let found: unknown[] = [value];
  for (const step of parse(path) ?? []) {
    found = found.flatMap((item) => {
      if (step === ANY) return Array.isArray(item) ? item : [];
      if (typeof step === 'number') return Array.isArray(item) && step < item.length ? [item[step]] : [];
      return isRecord(item) && Object.hasOwn(item, step) ? [item[step]] : [];
    });
  }
  return flattened(found);
}

/** Lists within lists may be nested as deep as an answer is long, deeper than calls may be. */
function flattened(values: unknown[]): unknown[] {
  const flat: unknown[] = [];
  const rest = [...values].reverse();
  while (rest.length > 0) {
    const item = rest.pop();
    if (!Array.isArray(item)) flat.push(item);
    else for (let i = item.length - 1; i >= 0; i--) rest.push(item[i]);
  }
  return flat;
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
