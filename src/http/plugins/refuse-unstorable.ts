import type { FastifyRequest } from 'fastify';
import { InvalidRequestError } from '../../errors.js';
import { findJsonFault, type JsonFault } from '../../storable-json.js';

const REPLIES: Record<JsonFault['fault'], { code: string; remedy: string }> = {
  text: {
    code: 'invalid_text',
    remedy: 'Text must be valid Unicode without NUL characters. Remove what is not.',
  },
  depth: { code: 'nested_too_deep', remedy: 'Nest values less deep.' },
  length: { code: 'too_many_items', remedy: 'Send fewer items.' },
};

/** A hook that refuses, wherever it is in a request, what could be neither stored nor looked up. */
export async function refuseUnstorable(request: FastifyRequest): Promise<void> {
  for (const part of [request.params, request.query, request.body]) {
    const found = findJsonFault(part);
    if (!found) continue;
    const { code, remedy } = REPLIES[found.fault];
    const param = found.path.join('.') || null;
    throw new InvalidRequestError({ code, param, message: `${param ?? 'The request'}: ${remedy}` });
  }
}
