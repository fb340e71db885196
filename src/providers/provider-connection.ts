import type { ProviderLimits } from './provider.js';
import type { Credentials, OpenInferenceSettings } from './provider-record.js';

/** Everything that is needed to reach a provider. */
export interface ProviderConnection {
  id: string;
  name: string;
  protocol: string;
  baseUrl: string;
  remoteModel: string;
  credentials?: Credentials;
  settings: OpenInferenceSettings;
  limits: ProviderLimits;
}
