import type { FastifyRequest } from 'fastify';
import { CraftError, InvalidRequestError } from '../errors.js';

export const IDEMPOTENCY_HEADER = 'idempotency-key';

/** 422: the key stands for the purchase of another answer. */
export class IdempotencyKeyReusedError extends CraftError {
  constructor() {
    super(422, 'invalid_request_error', {
      code: 'idempotency_key_reused',
      message: 'This Idempotency-Key was used for another question; a new question needs a new key.',
    });
  }
}

/** The idempotency key of a request, if it has one. @throws InvalidRequestError when it cannot be a key. */
export function idempotencyKey(request: FastifyRequest): string | undefined {
  const key = request.headers[IDEMPOTENCY_HEADER]?.toString();
  if (key === undefined || /^[\x20-\x7e]{1,255}$/.test(key)) return key;
  throw new InvalidRequestError({
    code: 'invalid_idempotency_key',
    message: 'Idempotency-Key: needs 1 to 255 printable ASCII characters.',
  });
}
