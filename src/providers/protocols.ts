import { describeOpenInference, OpenInferenceProvider } from './open-inference.js';
import type { Provider, ProviderCapabilities, ProviderLimits, ProviderPrices } from './provider.js';
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

/** Asks a provider what it can do, before it is registered. */
export async function describeProvider(connection: ProviderConnection): Promise<ProviderCapabilities> {
  return describeOpenInference(connection);
}

/** The one place that maps a protocol's name to its implementation. */
export function createProvider(
  connection: ProviderConnection,
  known: { capabilities: ProviderCapabilities; prices: ProviderPrices },
): Provider {
  return new OpenInferenceProvider(connection, known.capabilities, known.prices);
}
