import { describeOpenInference, OpenInferenceProvider } from './open-inference.js';
import type { Provider, ProviderCapabilities, ProviderPrices } from './provider.js';
import type { ProviderConnection } from './provider-connection.js';

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
