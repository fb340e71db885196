import { Agent, type Dispatcher, request } from 'undici';
import { AddressNotAllowedError } from './address-not-allowed-error.js';
import type { AddressPolicy } from './address-policy.js';
import { checkedConnector } from './checked-connector.js';
import { type Resolve, resolveBySystem } from './resolve-host.js';
import { ResourceError } from './resource-error.js';

export interface FetchOptions {
  maxBytes: number;
  /** For everything together: resolving, redirects and the body. */
  timeoutMs: number;
  /** Redirects that are followed, 3 where it is left out. */
  maxRedirects?: number;
  signal?: AbortSignal;
}

export interface Resource {
  bytes: Buffer;
  /** As the server says, lower-case and without parameters. */
  mediaType: string | null;
}

const MAX_REDIRECTS = 3;
const REDIRECTS = new Set([301, 302, 303, 307, 308]);

/** Fetches what callers name by URL, from addresses that the policy allows, over kept connections. */
export class ResourceFetcher {
  private readonly agent: Agent;

  constructor(policy: AddressPolicy, resolve: Resolve = resolveBySystem) {
    this.agent = new Agent({ connect: checkedConnector(policy, 10_000, resolve), keepAliveTimeout: 10_000 });
  }

  /**
   * @throws AddressNotAllowedError, ResourceError; the reason of `signal` when it fires
   */
  async fetch(url: string, options: FetchOptions): Promise<Resource> {
    const timeout = AbortSignal.timeout(options.timeoutMs);
    const signal = options.signal ? AbortSignal.any([timeout, options.signal]) : timeout;
    try {
      return await this.follow(url, options, signal);
    } catch (error) {
      options.signal?.throwIfAborted();
      if (error instanceof AddressNotAllowedError || error instanceof ResourceError) throw error;
      const reason = timeout.aborted
        ? `did not answer within ${options.timeoutMs} ms`
        : `cannot be reached (${codeOf(error)})`;
      throw new ResourceError('unreachable', `${named(url)} ${reason}. Check the URL, or try again later.`, error);
    }
  }

  async close(): Promise<void> {
    await this.agent.destroy();
  }

  private async follow(url: string, options: FetchOptions, signal: AbortSignal): Promise<Resource> {
    const { maxBytes, maxRedirects = MAX_REDIRECTS } = options;
    let target = parseTarget(url);
    for (let redirects = 0; ; redirects++) {
      const answer = await request(target, {
        // What a compressed body would grow to is known only too late.
        headers: { accept: 'image/*, */*;q=0.1', 'accept-encoding': 'identity' },
        signal,
        dispatcher: this.agent,
      });
      const { location } = answer.headers;
      if (!REDIRECTS.has(answer.statusCode) || typeof location !== 'string') {
        return await readResource(target.href, answer, maxBytes);
      }
      discard(answer);
      if (redirects === maxRedirects) {
        throw new ResourceError(
          'refused',
          `${named(url)} redirects more than ${maxRedirects} times. Give the final URL.`,
        );
      }
      target = parseTarget(location, target.href);
    }
  }
}

function parseTarget(url: string, base?: string): URL {
  if (!URL.canParse(url, base)) throw new ResourceError('refused', `${named(url)} is no URL.`);
  const parsed = new URL(url, base);
  if (parsed.protocol !== 'http:' && parsed.protocol !== 'https:') {
    throw new ResourceError('refused', `${named(parsed.href)} is not fetched. Use an http or https URL.`);
  }
  if (parsed.username !== '' || parsed.password !== '') {
    throw new ResourceError(
      'refused',
      `The URL at ${parsed.host} holds credentials. Leave user and password out of it.`,
    );
  }
  return parsed;
}

async function readResource(url: string, answer: Dispatcher.ResponseData, maxBytes: number): Promise<Resource> {
  const { headers, body } = answer;
  const tooLarge = () =>
    new ResourceError('too_large', `${named(url)} holds more than ${maxBytes} bytes. Use a smaller file.`);
  const refusal = refusalOf(url, answer) ?? (Number(headers['content-length'] ?? 0) > maxBytes ? tooLarge() : null);
  if (refusal) {
    discard(answer);
    throw refusal;
  }
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of body) {
    size += chunk.length;
    if (size > maxBytes) throw tooLarge();
    chunks.push(chunk);
  }
  const mediaType = [headers['content-type'] ?? []].flat()[0]?.split(';')[0].trim().toLowerCase() || null;
  return { bytes: Buffer.concat(chunks, size), mediaType };
}

function refusalOf(url: string, { statusCode: status, headers }: Dispatcher.ResponseData): ResourceError | null {
  if (status === 408 || status === 429 || status >= 500) {
    return new ResourceError('unreachable', `${named(url)} answered ${status}. Try again later.`);
  }
  if (status < 200 || status > 299) {
    return new ResourceError('refused', `${named(url)} answered ${status}. Check that everybody may read it.`);
  }
  const encoding = headers['content-encoding'];
  if (encoding === undefined || encoding === 'identity') return null;
  return new ResourceError('refused', `${named(url)} answered compressed, which was not asked for. Use another URL.`);
}

/** A body that nobody reads would hold its connection. */
function discard({ body }: Dispatcher.ResponseData): void {
  body.on('error', () => {}).destroy();
}

/** A URL without its query, which may hold a signature. */
function named(url: string): string {
  return `"${url.split(/[?#]/)[0].slice(0, 200)}"`;
}

function codeOf(error: unknown): string {
  return error instanceof Error && 'code' in error && typeof error.code === 'string' ? error.code : 'unknown reason';
}
