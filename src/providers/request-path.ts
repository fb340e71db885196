import type { ProviderConnection } from './provider-connection.js';

/** The path of every request to a provider, whether it asks what the provider can do or is billed. */

/** The query parameters of every request: those of the record, and the credentials where they travel there. */
export function queryOf({ settings, credentials }: ProviderConnection): Record<string, string> {
  return {
    ...('query' in settings ? settings.query : {}),
    ...(credentials?.type === 'query' ? { [credentials.name]: credentials.value } : {}),
  };
}

/** @param path relative to the base URL, starting with a slash */
export function requestPath(path: string, query: Record<string, string>): string {
  const parameters = new URLSearchParams(query).toString();
  return parameters === '' ? path : `${path}?${parameters}`;
}
