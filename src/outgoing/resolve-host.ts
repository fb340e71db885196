import { lookup } from 'node:dns/promises';
import { isIP } from 'node:net';
import { InvalidRequestError } from '../errors.js';
import { AddressNotAllowedError } from './address-not-allowed-error.js';
import { type AddressPolicy, bare, portOf } from './address-policy.js';

export interface ResolvedAddress {
  address: string;
  family: number;
}

/** All addresses of a host name. @throws the resolver's error, with its code (ENOTFOUND, EAI_AGAIN) */
export type Resolve = (hostname: string) => Promise<ResolvedAddress[]>;

export const resolveBySystem: Resolve = (hostname) => lookup(hostname, { all: true });

/**
 * The addresses of a host that may be called; the others are left out.
 * @throws AddressNotAllowedError where none may be, and as `resolve` throws
 */
export async function allowedAddresses(
  policy: AddressPolicy,
  hostname: string,
  port: number,
  resolve: Resolve = resolveBySystem,
): Promise<ResolvedAddress[]> {
  const address = bare(hostname);
  const family = isIP(address);
  const resolved = family === 0 ? await resolve(hostname) : [{ address, family }];
  const allowed = resolved.filter((found) => policy.refusal(hostname, port, found.address) === null);
  if (allowed.length === 0 && resolved.length > 0) policy.check(hostname, port, resolved[0].address);
  return allowed;
}

/**
 * Tells early, before anything is sent, whether a URL leads where this service must not call, or nowhere. Each connection
 * checks again, because names change their addresses.
 * @param param the request field to blame
 * @throws AddressNotAllowedError, and InvalidRequestError for a name that does not exist; one that cannot be resolved now
 * passes
 */
export async function checkUrl(
  url: string,
  policy: AddressPolicy,
  param: string,
  resolve: Resolve = resolveBySystem,
): Promise<void> {
  const parsed = new URL(url);
  try {
    await allowedAddresses(policy, parsed.hostname, portOf(parsed), resolve);
  } catch (error) {
    if (error instanceof AddressNotAllowedError) throw new AddressNotAllowedError(error.message, param);
    if (!isResolverError(error)) throw error;
    if (error.code === 'ENOTFOUND') throw hostNotFound(parsed.hostname, param);
  }
}

function isResolverError(error: unknown): error is NodeJS.ErrnoException {
  return error instanceof Error && 'syscall' in error;
}

function hostNotFound(host: string, param: string): InvalidRequestError {
  return new InvalidRequestError({
    code: 'host_not_found',
    param,
    message: `There is no host "${host}". Check its spelling; a name that only a private network knows must be known where this service runs.`,
  });
}
