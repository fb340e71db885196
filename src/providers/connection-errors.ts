import { errors as undiciErrors } from 'undici';
import { AddressNotAllowedError } from '../outgoing/address-not-allowed-error.js';
import { ProviderCallError } from './provider-call-error.js';
import type { Redactor } from './redactor.js';

/** Refused by undici before anything was sent; repeating the same request cannot help. */
const REFUSED_BY_CLIENT = new Set(['UND_ERR_INVALID_ARG', 'UND_ERR_CLOSED']);

/** A handshake that fails for one of these reasons fails again until a person mends the certificate or the address. */
const TLS_FAILURE =
  /^(ERR_TLS_|ERR_SSL_|CERT_|EPROTO$|(DEPTH_ZERO_)?SELF_SIGNED_CERT|UNABLE_TO_(VERIFY|GET)_|HOSTNAME_MISMATCH$|INVALID_CA$|INVALID_PURPOSE$|PATH_LENGTH_EXCEEDED$)/;

/** Why no whole answer came. @param connected whether there was a connection, so that something may have been sent */
export function connectionError(
  error: unknown,
  connected: boolean,
  context: { providerName: string; timeoutMs: number; redactor: Redactor },
): ProviderCallError {
  const { providerName: name, timeoutMs } = context;
  const code = codeOf(error);
  const cause = context.redactor.error(error);
  const unsent = (detail: { code: string; message: string; retryable: boolean }) =>
    new ProviderCallError({ ...detail, billing: 'unbilled', cause });
  if (error instanceof AddressNotAllowedError) {
    return unsent({
      code: error.code,
      message: `Provider "${name}" is not called: ${error.message}`,
      retryable: false,
    });
  }
  if (!connected && code !== undefined && TLS_FAILURE.test(code)) {
    return unsent({
      code: 'provider_tls_failed',
      message: `No secure connection to provider "${name}" could be made (${code}). Check that base_url has the host that its certificate is for, and that this service trusts the certificate's issuer (NODE_EXTRA_CA_CERTS).`,
      retryable: false,
    });
  }
  if (!connected) {
    return unsent({
      code: 'provider_unreachable',
      message: `Provider "${name}" cannot be reached (${code ?? 'unknown reason'}). Check its base_url and that it is running.`,
      retryable: true,
    });
  }
  if (code !== undefined && REFUSED_BY_CLIENT.has(code)) {
    return unsent({
      code: 'provider_request_invalid',
      message: `The request to provider "${name}" could not be sent (${code}). Check its base_url and credentials.`,
      retryable: false,
    });
  }
  const timedOut = isTimeout(error);
  return new ProviderCallError({
    code: timedOut ? 'provider_timeout' : 'provider_connection_lost',
    message: timedOut
      ? `Provider "${name}" did not answer within ${timeoutMs} ms. Raise timeout_ms in its record, or lower images_per_request.`
      : `The connection to provider "${name}" was lost before its answer was complete (${code ?? 'unknown reason'}).`,
    billing: 'unknown',
    retryable: true,
    cause,
  });
}

function isTimeout(error: unknown): boolean {
  return (
    (error instanceof Error && error.name === 'TimeoutError') ||
    error instanceof undiciErrors.HeadersTimeoutError ||
    error instanceof undiciErrors.BodyTimeoutError
  );
}

function codeOf(error: unknown): string | undefined {
  for (let cause = error; cause instanceof Error; cause = cause.cause) {
    if ('code' in cause && typeof cause.code === 'string') return cause.code;
  }
  return undefined;
}
