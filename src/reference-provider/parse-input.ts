import { z } from 'zod';
import { InvalidRequestError } from '../errors.js';

/** Reads what a client sent. @throws InvalidRequestError that names the first field to blame. */
export function parseInput<T>(schema: z.ZodType<T>, value: unknown, code = 'invalid_input'): T {
  const parsed = schema.safeParse(value);
  if (parsed.success) return parsed.data;
  throw invalidInput(parsed.error, code);
}

export function invalidInput(error: z.ZodError, code: string): InvalidRequestError {
  const [issue] = error.issues;
  const param = issue.path.join('.') || null;
  return new InvalidRequestError({
    code,
    message: param === null ? issue.message : `${param}: ${issue.message}`,
    param,
  });
}

export const MAX_TEXT_BYTES = 1024;

/** A text for the model to read, of a length that it takes. */
export const modelText = z
  .string()
  .refine(
    (text) => text.length > 0 && Buffer.byteLength(text) <= MAX_TEXT_BYTES,
    `must be a text of 1 to ${MAX_TEXT_BYTES} bytes`,
  );
