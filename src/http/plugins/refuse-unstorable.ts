import type { FastifyRequest } from 'fastify';
import { InvalidRequestError } from '../../errors.js';
import { findJsonFault } from '../../storable-json.js';

/** A hook that refuses text that could be neither stored nor looked up, wherever in a request it is. */
export async function refuseUnstorable(request: FastifyRequest): Promise<void> {
  for (const part of [request.params, request.query, request.body]) {
    const found = findJsonFault(part);
    if (!found) continue;
    const param = found.path.join('.') || null;
    const subject = param ?? 'The request';
    throw found.fault === 'text'
      ? new InvalidRequestError({
          code: 'invalid_text',
          param,
          message: `${subject}: Text must be valid Unicode without NUL characters. Remove what is not.`,
        })
      : new InvalidRequestError({ code: 'nested_too_deep', param, message: `${subject}: Nest values less deep.` });
  }
}
