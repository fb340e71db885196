import type { AddressPolicy } from '../outgoing/address-policy.js';
import type { ProviderLimits } from './provider.js';
import type { Credentials, Protocol, SettingsOf } from './provider-record.js';
import type { ObserveAnswer } from './transport-response.js';

/** Everything that is needed to reach a provider of a protocol. */
export interface ConnectionOf<P extends Protocol> {
  id: string;
  name: string;
  protocol: P;
  baseUrl: string;
  remoteModel: string;
  credentials?: Credentials;
  settings: SettingsOf<P>;
  limits: ProviderLimits;
  /** Which addresses may be called. */
  addresses: AddressPolicy;
  /** Sees every answer as it came, but for credentials that it echoes. */
  observe?: ObserveAnswer;
}

/** Of any protocol, which says what its settings are. */
export type ProviderConnection = { [P in Protocol]: ConnectionOf<P> }[Protocol];
