import type { Readable } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import { Agent, buildConnector, request, errors as undiciErrors } from 'undici';
import { ProviderCallError } from './provider-call-error.js';

/**
 * HTTP to one provider: keep-alive connections, the provider's concurrency and request rate, time-outs, a limit on the
 * size of answers, and the knowledge of which failures may have been billed.
 */
export interface TransportOptions {
  providerName: string;
  baseUrl: string;
  headers: Record<string, string>;
  requestsPerSecond: number | null;
  concurrency: number;
  timeoutMs: number;
  maxResponseBytes: number;
  /** HTTP statuses after which it is certain that nothing was billed; 429 is always one. */
  unbilledStatuses: number[];
}

export interface TransportRequest {
  method: 'GET' | 'POST';
  /** Relative to the base URL, starting with a slash. */
  path: string;
  headers?: Record<string, string>;
  body?: Buffer;
  /** Gives up while the request waits for its turn; one that was sent is awaited, because it may be billed. */
  signal?: AbortSignal;
}

export interface TransportResponse {
  status: number;
  headers: Record<string, string | string[] | undefined>;
  body: Buffer;
}

/** Refused by undici before anything was sent; repeating the same request cannot help. */
const REFUSED_BY_CLIENT = new Set(['UND_ERR_INVALID_ARG', 'UND_ERR_CLOSED']);

/** A handshake that fails for one of these reasons fails again until a person mends the certificate or the address. */
const TLS_FAILURE =
  /^(ERR_TLS_|ERR_SSL_|CERT_|EPROTO$|(DEPTH_ZERO_)?SELF_SIGNED_CERT|UNABLE_TO_(VERIFY|GET)_|HOSTNAME_MISMATCH$|INVALID_CA$|INVALID_PURPOSE$|PATH_LENGTH_EXCEEDED$)/;

export class Transport {
  private readonly agent: Agent;
  private readonly basePath: string;
  private readonly origin: string;
  private readonly waiting: (() => void)[] = [];
  /** Errors with which no connection came about, so that nothing can have been sent. */
  private readonly connectErrors = new WeakSet<Error>();
  /** Called once no request is in flight. */
  private readonly whenIdle: (() => void)[] = [];
  private closed = false;
  private inFlight = 0;
  private nextSendAt = 0;

  constructor(private readonly options: TransportOptions) {
    const url = new URL(options.baseUrl);
    this.origin = url.origin;
    this.basePath = url.pathname.replace(/\/+$/, '');
    this.agent = new Agent({
      connections: options.concurrency,
      keepAliveTimeout: 30_000,
      headersTimeout: options.timeoutMs,
      bodyTimeout: options.timeoutMs,
      connect: this.connector(),
    });
  }

  /**
   * Sends one request and reads the whole answer. Waits for a free place first (concurrency, requests per second).
   * @throws ProviderCallError for anything but a 2xx answer.
   */
  async send(input: TransportRequest): Promise<TransportResponse> {
    if (!(await this.acquire(input.signal))) throw this.notSent();
    try {
      if (!this.closed && !(await this.pace(input.signal))) throw this.notSent();
      if (this.closed) throw this.closedBefore();
      const response = await this.exchange(input);
      if (response.status >= 200 && response.status < 300) return response;
      throw this.statusError(response);
    } finally {
      this.release();
    }
  }

  /**
   * Refuses new requests, waits for those in flight and closes the connections. After `patienceMs`, where it is given,
   * what is still in flight is broken off.
   */
  async close(patienceMs?: number): Promise<void> {
    this.closed = true;
    if (this.inFlight > 0) {
      const idle = new Promise<void>((resolve) => this.whenIdle.push(resolve));
      const patience = new AbortController();
      await (patienceMs === undefined
        ? idle
        : Promise.race([idle, sleep(patienceMs, undefined, { signal: patience.signal }).catch(() => undefined)]));
      patience.abort();
    }
    await this.agent.destroy();
  }

  private connector(): buildConnector.connector {
    const connect = buildConnector({ timeout: Math.min(10_000, this.options.timeoutMs) });
    return (options, callback) =>
      connect(options, (...[error, socket]) => {
        if (error) {
          this.connectErrors.add(error);
          callback(error, null);
        } else callback(null, socket);
      });
  }

  private async exchange(input: TransportRequest): Promise<TransportResponse> {
    const signal = AbortSignal.timeout(this.options.timeoutMs);
    try {
      const answer = await request(this.origin + this.basePath + input.path, {
        method: input.method,
        headers: { ...this.options.headers, ...input.headers },
        body: input.body,
        signal,
        dispatcher: this.agent,
      });
      return {
        status: answer.statusCode,
        headers: answer.headers,
        body: await this.readBody(answer.body, Number(answer.headers['content-length'] ?? 0)),
      };
    } catch (error) {
      throw this.connectionError(error);
    }
  }

  private async readBody(body: Readable, announced: number): Promise<Buffer> {
    const limit = this.options.maxResponseBytes;
    const chunks: Buffer[] = [];
    let size = 0;
    const tooLarge = () =>
      new ProviderCallError({
        code: 'provider_answer_too_large',
        message: `Provider "${this.options.providerName}" answered with more than ${limit} bytes. Lower images_per_request or prompts_per_request in its record.`,
        billing: 'billed',
        retryable: false,
      });
    if (announced > limit) {
      // Read by nobody, it would hold its connection.
      body.on('error', () => {}).destroy();
      throw tooLarge();
    }
    for await (const chunk of body) {
      size += chunk.length;
      if (size > limit) throw tooLarge();
      chunks.push(chunk);
    }
    return chunks.length === 1 ? chunks[0] : Buffer.concat(chunks, size);
  }

  private connectionError(error: unknown): Error {
    if (error instanceof ProviderCallError) return error;
    const { providerName: name, timeoutMs } = this.options;
    const code = errorCode(error);
    const notConnected = error instanceof Error && this.connectErrors.has(error);
    if (notConnected && code !== undefined && TLS_FAILURE.test(code)) {
      return new ProviderCallError({
        code: 'provider_tls_failed',
        message: `No secure connection to provider "${name}" could be made (${code}). Check that base_url has the host that its certificate is for, and that this service trusts the certificate's issuer (NODE_EXTRA_CA_CERTS).`,
        billing: 'unbilled',
        retryable: false,
        cause: error,
      });
    }
    if (notConnected) {
      return new ProviderCallError({
        code: 'provider_unreachable',
        message: `Provider "${name}" cannot be reached (${code ?? 'unknown reason'}). Check its base_url and that it is running.`,
        billing: 'unbilled',
        retryable: true,
        cause: error,
      });
    }
    if (code !== undefined && REFUSED_BY_CLIENT.has(code)) {
      return new ProviderCallError({
        code: 'provider_request_invalid',
        message: `The request to provider "${name}" could not be sent (${code}). Check its base_url and credentials.`,
        billing: 'unbilled',
        retryable: false,
        cause: error,
      });
    }
    const timedOut =
      (error instanceof Error && error.name === 'TimeoutError') ||
      error instanceof undiciErrors.HeadersTimeoutError ||
      error instanceof undiciErrors.BodyTimeoutError;
    return new ProviderCallError({
      code: timedOut ? 'provider_timeout' : 'provider_connection_lost',
      message: timedOut
        ? `Provider "${name}" did not answer within ${timeoutMs} ms. Raise timeout_ms in its record, or lower images_per_request.`
        : `The connection to provider "${name}" was lost before its answer was complete (${code ?? 'unknown reason'}).`,
      billing: 'unknown',
      retryable: true,
      cause: error,
    });
  }

  private statusError(response: TransportResponse): ProviderCallError {
    const { providerName: name, unbilledStatuses } = this.options;
    const { status } = response;
    const unbilled = status === 429 || unbilledStatuses.includes(status);
    const { said, providerCode } = providerWords(response.body);
    const shared = {
      billing: unbilled ? ('unbilled' as const) : ('unknown' as const),
      retryAfterSeconds: retryAfterSeconds(response.headers['retry-after']),
      providerCode,
    };
    const quoted = said === undefined ? '' : ` It said: ${said}`;
    if (status === 429) {
      return new ProviderCallError({
        code: 'provider_rate_limited',
        message: `Provider "${name}" answered 429 (too many requests). Lower requests_per_second in its record.${quoted}`,
        retryable: true,
        ...shared,
      });
    }
    if (status === 401 || status === 403) {
      return new ProviderCallError({
        code: 'provider_credentials_refused',
        message: `Provider "${name}" refused our credentials (${status}). Update them with PATCH /v1/providers.`,
        retryable: false,
        ...shared,
      });
    }
    if (status === 408 || status >= 500) {
      return new ProviderCallError({
        code: 'provider_unavailable',
        message: `Provider "${name}" answered ${status}.${quoted}`,
        retryable: true,
        ...shared,
      });
    }
    const remedy =
      status === 413
        ? 'Lower limits.max_request_bytes in its record.'
        : 'Check its base_url, remote_model and settings.';
    return new ProviderCallError({
      code: 'provider_refused_request',
      message: `Provider "${name}" answered ${status}. ${remedy}${quoted}`,
      retryable: false,
      ...shared,
    });
  }

  private notSent(): ProviderCallError {
    return new ProviderCallError({
      code: 'provider_call_aborted',
      message: `The call to provider "${this.options.providerName}" was given up before it was sent.`,
      billing: 'unbilled',
      retryable: false,
    });
  }

  private closedBefore(): ProviderCallError {
    return new ProviderCallError({
      code: 'provider_closed',
      message: `The call to provider "${this.options.providerName}" was not sent: the provider's record was changed or deleted, or the service is stopping. Try again.`,
      billing: 'unbilled',
      retryable: false,
    });
  }

  /** Waits for a place among the requests in flight. @returns false when the caller gave up first */
  private async acquire(signal: AbortSignal | undefined): Promise<boolean> {
    if (signal?.aborted) return false;
    if (this.inFlight < this.options.concurrency) {
      this.inFlight++;
      return true;
    }
    await new Promise<void>((resolve) => this.waiting.push(resolve));
    if (!signal?.aborted) return true;
    this.release();
    return false;
  }

  /** Hands the place to the next in line, or frees it. */
  private release(): void {
    const next = this.waiting.shift();
    if (next) {
      next();
      return;
    }
    this.inFlight--;
    if (this.inFlight === 0) for (const resolve of this.whenIdle.splice(0)) resolve();
  }

  /** Spaces sends evenly, so that no window of a second ever holds more than the provider allows. */
  private async pace(signal: AbortSignal | undefined): Promise<boolean> {
    if (this.options.requestsPerSecond === null) return true;
    const now = performance.now();
    const sendAt = Math.max(now, this.nextSendAt);
    this.nextSendAt = sendAt + 1000 / this.options.requestsPerSecond;
    if (sendAt > now) await sleep(sendAt - now, undefined, { signal }).catch(() => undefined);
    return !signal?.aborted;
  }
}

function errorCode(error: unknown): string | undefined {
  for (let cause = error; cause instanceof Error; cause = cause.cause) {
    if ('code' in cause && typeof cause.code === 'string') return cause.code;
  }
  return undefined;
}

/** Seconds from a Retry-After header, which holds either seconds or an HTTP date; undefined when it is neither. */
export function retryAfterSeconds(header: string | string[] | undefined): number | undefined {
  const value = Array.isArray(header) ? header[0] : header;
  if (value === undefined) return undefined;
  const seconds = Number(value);
  if (Number.isFinite(seconds)) return Math.max(0, seconds);
  const date = Date.parse(value);
  return Number.isNaN(date) ? undefined : Math.max(0, (date - Date.now()) / 1000);
}

/** What the provider said of its own failure, short and printable, and the code it gave it. */
function providerWords(body: Buffer): { said?: string; providerCode?: string } {
  const text = body.subarray(0, 100_000).toString('utf8');
  const short = (words: string) =>
    words
      .replace(/[^\x20-\x7e]+/g, ' ')
      .trim()
      .slice(0, 300) || undefined;
  try {
    const parsed: unknown = JSON.parse(text);
    if (typeof parsed === 'object' && parsed !== null) {
      const error = 'error' in parsed ? parsed.error : undefined;
      const nested = typeof error === 'object' && error !== null && 'message' in error ? error.message : undefined;
      const said = typeof error === 'string' ? error : typeof nested === 'string' ? nested : text;
      const providerCode = 'code' in parsed && typeof parsed.code === 'string' ? parsed.code : undefined;
      return { said: short(said), providerCode };
    }
  } catch {
    // Not JSON: the text itself is what it said.
  }
  return { said: short(text) };
}
