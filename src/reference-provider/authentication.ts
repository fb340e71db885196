import { createHash, timingSafeEqual } from 'node:crypto';
import type { FastifyRequest } from 'fastify';
import { AuthenticationError } from '../errors.js';

export type KeyReader = (request: FastifyRequest) => string | undefined;

/** The key of an `Authorization: Bearer …` header, if there is one. */
export function bearerKey(request: FastifyRequest): string | undefined {
  return /^Bearer +(\S+) *$/i.exec(request.headers.authorization ?? '')?.[1];
}

/** As {@link bearerKey}; failing that, the key of an `api-key` header, as Azure's clients send it. */
export function bearerOrApiKey(request: FastifyRequest): string | undefined {
  return bearerKey(request) ?? request.headers['api-key']?.toString();
}

/** A hook that lets only requests with one of `keys` pass; without `keys` all pass. */
export function requireKey(
  keys: string[] | undefined,
  keyOf: KeyReader = bearerKey,
): (request: FastifyRequest) => Promise<void> {
  const digests = keys?.map(digest);
  return async (request) => {
    if (digests === undefined) return;
    const given = keyOf(request);
    const givenDigest = digest(given ?? '');
    if (given !== undefined && digests.some((known) => timingSafeEqual(known, givenDigest))) return;
    throw new AuthenticationError({
      code: given === undefined ? 'missing_api_key' : 'invalid_api_key',
      message: 'Send a valid key in the header "Authorization: Bearer <key>".',
    });
  };
}

function digest(key: string): Buffer {
  return createHash('sha256').update(key).digest();
}
