/** JSON bodies with `{{placeholders}}` in their texts. */

export type PlaceholderValues = Record<string, string | string[] | undefined>;

const WHOLE = /^\{\{\s*(\w+)\s*\}\}$/;
const ANYWHERE = /\{\{\s*(\w+)\s*\}\}/g;

/** The names of all placeholders of a body. */
export function placeholdersOf(body: unknown): Set<string> {
  const names = new Set<string>();
  visit(body, (text) => {
    for (const [, name] of text.matchAll(ANYWHERE)) names.add(name);
    return text;
  });
  return names;
}

/**
 * A text that is one placeholder becomes its value, a list too; within other text a list is joined by commas. What has no
 * value stays as it is.
 */
export function fillTemplate(body: unknown, values: PlaceholderValues): unknown {
  const valueFor = (name: string) => (Object.hasOwn(values, name) ? values[name] : undefined);
  return visit(body, (text) => {
    const whole = WHOLE.exec(text);
    if (whole) return valueFor(whole[1]) ?? text;
    return text.replace(ANYWHERE, (place, name: string) => String(valueFor(name) ?? place));
  });
}

function visit(value: unknown, change: (text: string) => unknown): unknown {
  if (typeof value === 'string') return change(value);
  if (Array.isArray(value)) return value.map((item) => visit(item, change));
  if (typeof value !== 'object' || value === null) return value;
  return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, visit(item, change)]));
}
