/** A part of a secret that is as long as this gives it away. */
const REVEALING = 8;
/** A shorter beginning does, too, where asterisks or dots stand for the rest. */
const REVEALING_IF_MASKED = 3;
const MASKED_REST = /^(?:[*•…]+|\.{2,}|[xX]{3,})[^\s"'<>()[\]{},;]{0,8}/;
const MARK = '[redacted]';
const MOST_CAUSES = 5;

/**
 * Takes credentials out of what others say: providers echo keys in their error messages, whole, encoded, cut off or with
 * the middle masked.
 */
export class Redactor {
  private readonly forms: string[];

  /** @param secrets header values and the like; of `Bearer x`, `x` is the secret */
  constructor(secrets: string[]) {
    const values = secrets.map(tokenOf).filter((value) => value !== '');
    this.forms = [...new Set(values.flatMap(encodingsOf).map(lowerCase))];
  }

  text(text: string): string {
    const folded = lowerCase(text);
    const spans = this.forms.flatMap((form) => spansOf(form, folded)).sort((a, b) => a.start - b.start);
    let redacted = '';
    let end = 0;
    for (const span of spans) {
      if (span.start >= end) redacted += text.slice(end, span.start) + MARK;
      end = Math.max(end, span.end);
    }
    return redacted + text.slice(end);
  }

  /** A copy of an error and its causes with nothing but names, codes and redacted words. */
  error(error: unknown, depth = 0): unknown {
    if (error === undefined || depth === MOST_CAUSES) return undefined;
    if (!(error instanceof Error)) return this.text(String(error));
    const cause = this.error(error.cause, depth + 1);
    const copy = new Error(this.text(error.message), cause === undefined ? undefined : { cause });
    copy.name = error.name;
    copy.stack = error.stack === undefined ? undefined : this.text(error.stack);
    const hasCode = 'code' in error && typeof error.code === 'string';
    return hasCode ? Object.assign(copy, { code: this.text(error.code as string) }) : copy;
  }
}

interface Span {
  start: number;
  end: number;
}

/** Of an Authorization header, what follows the scheme. */
function tokenOf(secret: string): string {
  return secret.replace(/^(Bearer|Basic|Token|Key|ApiKey)\s+/i, '');
}

function encodingsOf(secret: string): string[] {
  const base64 = Buffer.from(secret, 'utf8').toString('base64').replace(/=+$/, '');
  const base64Url = base64.replaceAll('+', '-').replaceAll('/', '_');
  const parameter = new URLSearchParams({ '': secret }).toString().slice(1);
  return [secret, encodeURIComponent(secret), parameter, JSON.stringify(secret).slice(1, -1), base64, base64Url];
}

/** Some servers change the case of what they repeat. The length stays, unlike with `toLowerCase` beyond ASCII. */
function lowerCase(text: string): string {
  return text.replace(/[A-Z]/g, (letter) => letter.toLowerCase());
}

/** Where the text holds the whole form, a revealing beginning or end of it, or a masked one. */
function spansOf(form: string, text: string): Span[] {
  const spans: Span[] = [];
  for (const start of occurrences(text, form.slice(0, REVEALING_IF_MASKED))) {
    const length = commonLength(form, text, start);
    const masked = MASKED_REST.exec(text.slice(start + length, start + length + 200))?.[0].length ?? 0;
    if (length === form.length || length >= REVEALING || masked > 0)
      spans.push({ start, end: start + length + masked });
  }
  if (form.length <= REVEALING) return spans;
  for (const tail of occurrences(text, form.slice(-REVEALING))) {
    let start = tail;
    while (start > 0 && text[start - 1] === form[form.length - REVEALING - 1 - (tail - start)]) start--;
    spans.push({ start, end: tail + REVEALING });
  }
  return spans;
}

function occurrences(text: string, part: string): number[] {
  const found: number[] = [];
  for (let at = text.indexOf(part); at !== -1; at = text.indexOf(part, at + 1)) found.push(at);
  return found;
}

function commonLength(form: string, text: string, start: number): number {
  let length = 0;
  while (length < form.length && text[start + length] === form[length]) length++;
  return length;
}
