/** What a provider says of its own failure. */
export interface ProviderWords {
  /** Its sentence, printable but not yet redacted. */
  said?: string;
  /** The code that it gives the failure. */
  code?: string;
  /** Seconds until its model is loaded, where it says so (Hugging Face). */
  estimatedSeconds?: number;
}

const MOST_BYTES = 100_000;

/** Reads the bodies of OpenAI and those who follow it, Hugging Face, FastAPI and Open Inference, or takes the text itself. */
export function readProviderWords(body: Buffer): ProviderWords {
  const text = body.subarray(0, MOST_BYTES).toString('utf8');
  const parsed = asRecord(parseJson(text));
  if (!parsed) return { said: printable(text) };
  const nested = asRecord(parsed.error);
  const said = [parsed.error, nested?.message, parsed.message, parsed.detail].find(
    (words) => typeof words === 'string',
  );
  const code = [parsed.code, nested?.code, nested?.type].find((value) => typeof value === 'string');
  const seconds = parsed.estimated_time;
  return {
    said: printable(typeof said === 'string' ? said : text),
    code: typeof code === 'string' ? printable(code)?.slice(0, 100) : undefined,
    estimatedSeconds: typeof seconds === 'number' && seconds >= 0 ? seconds : undefined,
  };
}

function printable(text: string): string | undefined {
  return text.replace(/[^\x20-\x7e]+/g, ' ').trim() || undefined;
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

function asRecord(value: unknown): Record<string, unknown> | undefined {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
    ? (value as Record<string, unknown>)
    : undefined;
}
