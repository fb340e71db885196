import * as craftErrors from '../../craft/errors.js';

/** An error on its way between threads: a structured clone keeps neither its class nor its name. */
export interface SentError {
  name: string;
  message: string;
  stack?: string;
  cause?: SentError;
}

type ErrorClass = new (message: string, options?: ErrorOptions) => Error;

const CLASSES = new Map<string, ErrorClass>(
  Object.entries({ ...craftErrors, RangeError, TypeError } as Record<string, ErrorClass>),
);

export function sendError(error: unknown): SentError {
  if (!(error instanceof Error)) return { name: 'Error', message: String(error) };
  const { name, message, stack, cause } = error;
  return { name, message, stack, ...(cause === undefined ? {} : { cause: sendError(cause) }) };
}

/** The error in the class that it had, where that is one of the algorithm's or of the language. */
export function receiveError({ name, message, stack, cause }: SentError): Error {
  const Class = CLASSES.get(name) ?? Error;
  const error = new Class(message, cause && { cause: receiveError(cause) });
  if (Class === Error) error.name = name;
  if (stack !== undefined) error.stack = stack;
  return error;
}
