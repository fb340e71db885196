import { CustomHttpProvider, describeCustomHttp } from './custom-http.js';
import { describeEmbeddings, EmbeddingsProvider } from './embeddings.js';
import { describeHuggingFace, HuggingFaceProvider } from './hugging-face.js';
import { describeOpenInference, OpenInferenceProvider } from './open-inference.js';
import { describeOpenAiChat, OpenAiChatProvider } from './openai-chat.js';
import { requireOwnHeaders } from './own-headers.js';
import type { Provider, ProviderCapabilities, ProviderPrices } from './provider.js';
import type { ProviderConnection } from './provider-connection.js';

/** The one place that maps a protocol's name to its implementation. */

/**
 * Asks a provider what it can do, before it is registered, as far as its protocol lets one ask for nothing.
 * @throws InvalidRequestError when the record does not fit together or not what the provider says; ProviderError when it
 * cannot be asked
 */
export async function describeProvider(connection: ProviderConnection): Promise<ProviderCapabilities> {
  requireOwnHeaders(connection);
  switch (connection.protocol) {
    case 'open_inference':
      return describeOpenInference(connection);
    case 'hugging_face':
      return describeHuggingFace(connection);
    case 'openai_chat':
      return describeOpenAiChat(connection);
    case 'embeddings':
      return describeEmbeddings(connection);
    case 'custom_http':
      return describeCustomHttp(connection);
  }
}

/** Opens the connections of a provider whose capabilities are known; asks nothing. Its owner closes it. */
export function createProvider(
  connection: ProviderConnection,
  { capabilities, prices }: { capabilities: ProviderCapabilities; prices: ProviderPrices },
): Provider {
  switch (connection.protocol) {
    case 'open_inference':
      return new OpenInferenceProvider(connection, capabilities, prices);
    case 'hugging_face':
      return new HuggingFaceProvider(connection, capabilities, prices);
    case 'openai_chat':
      return new OpenAiChatProvider(connection, capabilities, prices);
    case 'embeddings':
      return new EmbeddingsProvider(connection, capabilities, prices);
    case 'custom_http':
      return new CustomHttpProvider(connection, capabilities, prices);
  }
}
