import { InvalidRequestError } from '../errors.js';
import { openTransport } from './http-provider.js';
import { ProviderCallError } from './provider-call-error.js';
import type { ConnectionOf } from './provider-connection.js';
import { registrationError } from './registration-error.js';
import type { Transport } from './transport.js';

/** Which models an OpenAI-compatible server lists, asked before one of them is registered. */

/** Servers that do not let everybody see their models, or that have no list, are believed. */
const NO_LIST = [403, 404, 405];
const MOST_NAMED = 5;
const LONGEST_NAME = 80;

/**
 * Asks whether the model is there, which costs nothing.
 * @throws ProviderError when the server cannot be asked, InvalidRequestError when it lists others only
 */
export async function requireModel(connection: ConnectionOf<'openai_chat'>): Promise<void> {
  const { remoteModel, baseUrl } = connection;
  const transport = openTransport(connection);
  const listed = await listedModels(transport).finally(() => transport.close());
  // What a request to Azure names is a deployment, and what it lists are the models that can be deployed.
  if (listed === null || isAzure(baseUrl) || listed.some((id) => isModel(id, remoteModel))) return;
  const names = listed.slice(0, MOST_NAMED).map((id) => `"${transport.redact(id).slice(0, LONGEST_NAME)}"`);
  throw new InvalidRequestError({
    code: 'provider_model_missing',
    param: 'remote_model',
    message: `"${baseUrl}" has no model "${remoteModel}". It has ${listed.length}, such as ${names.join(', ')}.`,
  });
}

export function isAzure(baseUrl: string): boolean {
  return new URL(baseUrl).hostname.endsWith('.azure.com');
}

export function isOpenAi(baseUrl: string): boolean {
  return new URL(baseUrl).hostname === 'api.openai.com';
}

/** null where the server lists none. */
async function listedModels(transport: Transport): Promise<string[] | null> {
  try {
    const { body } = await transport.send({ method: 'GET', path: '/models' });
    return idsOf(parseJson(body));
  } catch (error) {
    if (!(error instanceof ProviderCallError)) throw error;
    if (NO_LIST.includes(error.providerStatus ?? 0)) return null;
    throw registrationError(error);
  }
}

function idsOf(answer: unknown): string[] | null {
  const { data } = (answer ?? {}) as { data?: unknown };
  if (!Array.isArray(data) || data.length === 0) return null;
  return data.every(isListed) ? data.map(({ id }) => id) : null;
}

function isListed(model: unknown): model is { id: string } {
  return typeof model === 'object' && model !== null && 'id' in model && typeof model.id === 'string';
}

/** Ids may have a prefix, such as `models/`, or a tag where the name has none (Ollama), or the other way round (routers). */
function isModel(id: string, name: string): boolean {
  const names = [name, name.replace(/:[^:/]*$/, ''), `${name}:latest`];
  return names.some((known) => id === known || id.endsWith(`/${known}`));
}

function parseJson(body: Buffer): unknown {
  try {
    return JSON.parse(body.toString('utf8'));
  } catch {
    return undefined;
  }
}
