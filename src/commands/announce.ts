import type { ApiServer } from '../api-server.js';
import type { Config } from '../config.js';

/** Says where the API listens and, the first time, its key. */
export function announceApi(api: ApiServer, config: Config): void {
  process.stdout.write(`craft-server listens on ${api.url} (documentation: ${api.url}/docs)\n`);
  if (!api.apiKeyIsNew) return;
  process.stdout.write(`API key, shown this once and kept in ${config.dataDirectory}/api-key: ${api.apiKey}\n`);
}
