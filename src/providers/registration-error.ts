import { ProviderError } from '../errors.js';
import type { ProviderCallError } from './provider-call-error.js';

/** A failed look at a provider that is being registered, in terms of the record's fields. */
export function registrationError(error: ProviderCallError): ProviderError {
  const param = error.code === 'provider_credentials_refused' ? 'credentials' : 'base_url';
  return new ProviderError({ code: error.code, message: error.message, param, cause: error });
}
