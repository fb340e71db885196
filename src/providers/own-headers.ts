import { InvalidRequestError } from '../errors.js';
import type { ProviderConnection } from './provider-connection.js';
import { hasOtherUse } from './settings/common.js';

/** Headers that a record names must each have one use: of two values of one header, a provider reads either. */

/** @throws InvalidRequestError when two things of the record would travel in one header */
export function requireOwnHeaders(connection: ProviderConnection): void {
  const { idempotency } = connection.settings;
  const repeated = fixedHeaders(connection).find((name) => isCredentialHeader(name, connection));
  if (repeated !== undefined) {
    throw new InvalidRequestError({
      code: 'provider_header_conflict',
      param: 'settings.headers',
      message: `The header "${repeated}" carries the credentials. Leave it out of settings.headers.`,
    });
  }
  if (idempotency) requireOwnKeyHeader(idempotency.header, connection, 'settings.idempotency.header');
}

/**
 * @param header that for idempotency keys, stated by record or model
 * @throws InvalidRequestError when it has another use
 */
export function requireOwnKeyHeader(header: string, connection: ProviderConnection, param: string): void {
  const isFixed = fixedHeaders(connection).some((name) => isSame(name, header));
  if (!isFixed && !isCredentialHeader(header, connection) && !hasOtherUse(header)) return;
  throw new InvalidRequestError({
    code: 'provider_idempotency_header_invalid',
    param,
    message: `Idempotency keys cannot go into the header "${header}", which has another use. Name another one, or set settings.idempotency to null.`,
  });
}

function fixedHeaders({ settings }: ProviderConnection): string[] {
  return 'headers' in settings ? Object.keys(settings.headers) : [];
}

function isCredentialHeader(header: string, { credentials }: ProviderConnection): boolean {
  return credentials?.type === 'header' && isSame(credentials.name, header);
}

function isSame(one: string, other: string): boolean {
  return one.toLowerCase() === other.toLowerCase();
}
