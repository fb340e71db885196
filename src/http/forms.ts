import type { MultipartFile, MultipartValue } from '@fastify/multipart';
import type { FastifyRequest } from 'fastify';
import { InvalidRequestError } from '../errors.js';
import { repeatedParameter } from './plugins/error-replies.js';

type PartOptions = Parameters<FastifyRequest['parts']>[0];

/**
 * The parts of a multipart request, as they arrive.
 * @throws InvalidRequestError when the body is no readable form
 */
export async function* formParts(request: FastifyRequest, options?: PartOptions) {
  try {
    yield* request.parts(options);
  } catch (error) {
    throw toFormError(error);
  }
}

/**
 * A file of a form, in memory.
 * @throws InvalidRequestError when the form ends within it
 */
export async function fileBytes(part: MultipartFile): Promise<Buffer> {
  try {
    return await part.toBuffer();
  } catch (error) {
    throw toFormError(error);
  }
}

/** @throws InvalidRequestError naming a text field that the form has had already */
export function requireFirst({ fieldname }: Pick<MultipartValue, 'fieldname'>, fields: object): void {
  if (Object.hasOwn(fields, fieldname)) throw repeatedParameter(fieldname, 'form');
}

/** Errors that know their status say what was wrong; all others of the parser are about the form's syntax. */
function toFormError(error: unknown): unknown {
  if (error instanceof Error && 'statusCode' in error && Number(error.statusCode) < 500) return error;
  return new InvalidRequestError({
    code: 'malformed_form',
    message:
      'The multipart body cannot be read. Name its boundary in the Content-Type, end it with that boundary, and send it whole.',
    cause: error,
  });
}
