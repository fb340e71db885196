import type { Readable } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import { Agent, buildConnector, type Dispatcher, request } from 'undici';
import type { AddressPolicy } from '../outgoing/address-policy.js';
import { checkedConnector } from '../outgoing/checked-connector.js';
import { BackOff } from './back-off.js';
import { connectionError } from './connection-errors.js';
import { ProviderCallError } from './provider-call-error.js';
import { exhaustedSeconds } from './rate-headers.js';
import { Redactor } from './redactor.js';
import { requestPath } from './request-path.js';
import { NotSentError, type Place, SendQueue } from './send-queue.js';
import { SlidingWindow } from './sliding-window.js';
import { statusError } from './status-errors.js';
import type { ObserveAnswer, TransportResponse } from './transport-response.js';

/**
 * HTTP to one provider: keep-alive connections to addresses that may be called, the provider's concurrency and rates, its
 * wishes to be left alone, time-outs, a limit on the size of answers, and the knowledge of which failures may have been
 * billed. Nothing is sent twice, and no redirect is followed.
 */
export interface TransportOptions {
  providerName: string;
  baseUrl: string;
  headers: Record<string, string>;
  /** Parameters of every request. */
  query?: Record<string, string>;
  requestsPerSecond: number | null;
  /** Of the estimates that requests come with. */
  tokensPerSecond?: number | null;
  concurrency: number;
  /** From the moment when a request is sent to the end of its answer. */
  timeoutMs: number;
  maxResponseBytes: number;
  /** HTTP statuses after which it is certain that nothing was billed; 429 is always one. */
  unbilledStatuses: number[];
  /** Whether nothing is billed while the model is being loaded, which a 503 with an estimated time says. */
  unbilledWhileLoading?: boolean;
  /** What helps against answers that are larger than the limit, as a sentence. */
  largeAnswerRemedy?: string;
  /** Which addresses may be called; all, where it is left out. */
  addressPolicy?: AddressPolicy;
  /** Sees every answer, whatever its status, as it came but for credentials that it echoes. */
  observe?: ObserveAnswer;
  /** What no error may show, besides the headers that carry credentials by their name. */
  secrets?: string[];
}

export interface TransportRequest {
  method: 'GET' | 'POST';
  /** Relative to the base URL, starting with a slash. */
  path: string;
  headers?: Record<string, string>;
  body?: Buffer;
  /** Gives up while the request waits for its turn; one that was sent is awaited, because it may be billed. */
  signal?: AbortSignal;
  /** Estimate of the tokens that the provider will count. */
  tokens?: number;
  /** In place of the transport's limit, of a success; a failure may repeat the request. */
  maxResponseBytes?: number;
  /** The longest time for which the provider may have asked to be left alone; a longer one fails at once. */
  patienceMs?: number;
}

const LONGEST_CONNECT_MS = 10_000;
/** After a success: the limit that it used up may be filled again, in part, long before it is full. */
const LONGEST_HOLD_AFTER_SUCCESS_S = 60;

export class Transport {
  private readonly agent: Agent;
  private readonly basePath: string;
  private readonly origin: string;
  private readonly backOff: BackOff;
  private readonly queue: SendQueue;
  private readonly redactor: Redactor;
  /** Errors with which no connection came about, so that nothing can have been sent. */
  private readonly connectErrors = new WeakSet<Error>();

  constructor(private readonly options: TransportOptions) {
    const url = new URL(options.baseUrl);
    this.origin = url.origin;
    this.basePath = url.pathname.replace(/\/+$/, '');
    this.backOff = new BackOff(options.concurrency);
    this.queue = new SendQueue(this.backOff, {
      requests: windowOf(options.requestsPerSecond),
      tokens: windowOf(options.tokensPerSecond),
    });
    this.redactor = new Redactor([...(options.secrets ?? []), ...credentialsIn(options.headers)]);
    this.agent = new Agent({
      connections: options.concurrency,
      keepAliveTimeout: 30_000,
      headersTimeout: options.timeoutMs,
      bodyTimeout: options.timeoutMs,
      connect: this.connector(),
    });
  }

  /**
   * Sends one request and reads the whole answer. Waits for its turn first: a free place, the rates, and the end of a
   * pause for which the provider asked.
   * @throws ProviderCallError for anything but a 2xx answer.
   */
  async send(input: TransportRequest): Promise<TransportResponse> {
    const place = await this.enter(input);
    try {
      const response = await this.exchange(input, place);
      if (!isSuccess(response.status)) throw this.failureOf(response, place);
      this.backOff.succeeded();
      this.hold(exhaustedSeconds(response.headers));
      return response;
    } finally {
      place.leave();
    }
  }

  /** Waits no longer for the end of a pause for which the provider asked. */
  endHold(): void {
    this.backOff.endHold();
    this.queue.advance();
  }

  /** Takes this provider's credentials out of what it says, for errors that quote its answers. */
  redact(text: string): string {
    return this.redactor.text(text);
  }

  /** As {@link redact}, of an error and its causes. */
  redactError(error: unknown): unknown {
    return this.redactor.error(error);
  }

  /**
   * Refuses new requests, waits for those in flight and closes the connections. After `patienceMs`, where it is given,
   * what is still in flight is broken off.
   */
  async close(patienceMs?: number): Promise<void> {
    this.queue.close();
    const idle = this.queue.idle();
    const patience = new AbortController();
    await (patienceMs === undefined
      ? idle
      : Promise.race([idle, sleep(patienceMs, undefined, { signal: patience.signal }).catch(() => undefined)]));
    patience.abort();
    await this.agent.destroy();
  }

  private connector(): buildConnector.connector {
    const { addressPolicy } = this.options;
    const timeout = Math.min(LONGEST_CONNECT_MS, this.options.timeoutMs);
    const connect = addressPolicy ? checkedConnector(addressPolicy, timeout) : buildConnector({ timeout });
    return (options, callback) =>
      connect(options, (...[error, socket]) => {
        if (error) {
          this.connectErrors.add(error);
          callback(error, null);
        } else callback(null, socket);
      });
  }

  private async enter({ signal, tokens, patienceMs }: TransportRequest): Promise<Place> {
    try {
      return await this.queue.enter({ signal, patienceMs, tokens: Math.ceil(tokens ?? 0) });
    } catch (error) {
      throw error instanceof NotSentError ? this.notSent(error) : error;
    }
  }

  private async exchange(input: TransportRequest, place: Place): Promise<TransportResponse> {
    const timeout = new AbortController();
    let timer: NodeJS.Timeout | undefined;
    const sent = () => {
      place.sent();
      timer = setTimeout(() => timeout.abort(new DOMException('Timed out', 'TimeoutError')), this.options.timeoutMs);
    };
    try {
      const path = requestPath(this.basePath + input.path, this.options.query ?? {});
      const answer = await request(this.origin + path, {
        method: input.method,
        headers: { ...this.options.headers, ...input.headers },
        body: input.body,
        signal: timeout.signal,
        dispatcher: this.agent.compose(telling(sent)),
      });
      const announced = Number(answer.headers['content-length'] ?? 0);
      const { maxResponseBytes: most } = this.options;
      const limit = isSuccess(answer.statusCode) ? (input.maxResponseBytes ?? most) : most;
      const body = await this.readBody(answer.body, announced, limit);
      const response = { status: answer.statusCode, headers: answer.headers, body };
      const { sentAt = performance.now() } = place;
      this.options.observe?.(this.redacted(response), performance.now() - sentAt);
      return response;
    } catch (error) {
      if (error instanceof ProviderCallError) throw error;
      const connected = !(error instanceof Error && this.connectErrors.has(error));
      throw connectionError(error, connected, { ...this.options, redactor: this.redactor });
    } finally {
      clearTimeout(timer);
    }
  }

  private redacted(response: TransportResponse): TransportResponse {
    const text = this.redactor.text(response.body.toString('latin1'));
    return { ...response, body: Buffer.from(text, 'latin1') };
  }

  private async readBody(body: Readable, announced: number, limit: number): Promise<Buffer> {
    const chunks: Buffer[] = [];
    let size = 0;
    const tooLarge = () =>
      new ProviderCallError({
        code: 'provider_answer_too_large',
        message: `Provider "${this.options.providerName}" answered with more than ${limit} bytes. ${this.options.largeAnswerRemedy ?? 'Lower images_per_request or prompts_per_request in its record.'}`,
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

  /** The failure that a status means, which holds back the requests after it where the provider has too much to do. */
  private failureOf(response: TransportResponse, { sentAt }: Place): ProviderCallError {
    const failure = statusError(response, { ...this.options, redactor: this.redactor });
    const rateLimited = failure.code === 'provider_rate_limited';
    if ((rateLimited || response.status === 503) && sentAt !== undefined) {
      const isNew = this.backOff.pushedBack(sentAt, performance.now(), failure.retryAfterSeconds);
      if (rateLimited && isNew) this.queue.widenWindows();
      this.queue.advance();
    }
    return failure;
  }

  private hold(seconds: number | undefined): void {
    if (seconds === undefined) return;
    this.backOff.hold(performance.now(), Math.min(LONGEST_HOLD_AFTER_SUCCESS_S, seconds) * 1000);
    this.queue.advance();
  }

  private notSent({ reason, seconds }: NotSentError): ProviderCallError {
    const call = `The call to provider "${this.options.providerName}"`;
    switch (reason) {
      case 'aborted':
        return new ProviderCallError({
          code: 'provider_call_aborted',
          message: `${call} was given up before it was sent.`,
          billing: 'unbilled',
          retryable: false,
        });
      case 'closed':
        return new ProviderCallError({
          code: 'provider_closed',
          message: `${call} was not sent: the provider's record was changed or deleted, or the service is stopping. Try again.`,
          billing: 'unbilled',
          retryable: false,
        });
      case 'held':
        return new ProviderCallError({
          code: 'provider_rate_limited',
          message: `${call} was not sent: the provider asked to be left alone for ${Math.ceil(seconds ?? 0)} s more. Try again then.`,
          billing: 'unbilled',
          retryable: true,
          retryAfterSeconds: seconds,
        });
    }
  }
}

function isSuccess(status: number): boolean {
  return status >= 200 && status < 300;
}

const CREDENTIAL_HEADER = /auth|cookie|key|secret|token/i;

function credentialsIn(headers: Record<string, string>): string[] {
  return Object.entries(headers).flatMap(([name, value]) => (CREDENTIAL_HEADER.test(name) ? [value] : []));
}

function windowOf(perSecond: number | null | undefined): SlidingWindow | null {
  return perSecond === null || perSecond === undefined ? null : new SlidingWindow(perSecond);
}

/** Calls `sent` when a connection is there and the request is being written to it. */
function telling(sent: () => void): Dispatcher.DispatcherComposeInterceptor {
  return (dispatch) => (options, handler) =>
    dispatch(options, {
      onRequestStart(controller, context) {
        sent();
        handler.onRequestStart?.(controller, context);
      },
      onResponseStart: (...args) => handler.onResponseStart?.(...args),
      onResponseData: (...args) => handler.onResponseData?.(...args),
      onResponseEnd: (...args) => handler.onResponseEnd?.(...args),
      onResponseError: (...args) => handler.onResponseError?.(...args),
    });
}
