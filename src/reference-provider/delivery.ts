import { once, setMaxListeners } from 'node:events';
import type { Socket } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import type { FastifyReply, FastifyRequest } from 'fastify';
import { CraftError } from '../errors.js';
import type { EncodedBody } from '../formats/open-inference-binary.js';
import type { Fault, Verdict } from './misbehaviour.js';

/** An error that was asked for; nothing was computed. */
class CommittedError extends CraftError {}

/** 503: the model is not in memory yet, as serverless inference says it. */
export class ModelLoadingError extends CraftError {
  constructor(
    modelName: string,
    readonly estimatedSeconds: number,
  ) {
    super(503, 'server_error', { code: 'model_loading', message: `Model ${modelName} is currently loading` });
  }
}

const LOADING_SECONDS = 20;

/** Writes answers to the network, with the faults that were asked for. */
export class Delivery {
  private readonly hanging = new Set<Socket>();
  private readonly closing = new AbortController();

  constructor(private readonly modelName: string) {
    // Every answer that waits listens to it.
    setMaxListeners(0, this.closing.signal);
  }

  get closed(): boolean {
    return this.closing.signal.aborted;
  }

  /**
   * Waits and fails as `verdict` says.
   * @returns whether the connection has been dealt with, so that nothing is to be computed.
   * @throws CraftError where the verdict is an error.
   */
  async interrupts(verdict: Verdict, request: FastifyRequest, reply: FastifyReply): Promise<boolean> {
    if (verdict.held !== undefined && !this.closed) {
      await Promise.race([verdict.held, once(this.closing.signal, 'abort')]);
    }
    if (verdict.latencyMs > 0) {
      await delay(verdict.latencyMs, undefined, { signal: this.closing.signal }).catch(() => {});
    }
    const { kind, retryAfterSeconds } = verdict.fault ?? {};
    switch (kind) {
      case '429':
        throw new CommittedError(429, 'rate_limit_error', {
          code: 'rate_limit_exceeded',
          message: 'Too many requests.',
          retryAfterSeconds,
        });
      case '500':
        throw new CommittedError(500, 'server_error', { code: 'internal_error', message: 'Internal error.' });
      case '503':
        throw new CommittedError(503, 'server_error', {
          code: 'unavailable',
          message: 'The model is not available.',
          retryAfterSeconds,
        });
      case 'loading':
        throw new ModelLoadingError(this.modelName, retryAfterSeconds ?? LOADING_SECONDS);
      case 'drop_before':
        reply.hijack();
        request.raw.socket.destroy();
        return true;
      case 'hang':
        reply.hijack();
        this.hang(request.raw.socket);
        return true;
      default:
        return false;
    }
  }

  /** Answers 200 with `answer`, or spoils it as `fault` says. */
  send(answer: EncodedBody, fault: Fault | undefined, request: FastifyRequest, reply: FastifyReply): void {
    const { body } = answer;
    switch (fault?.kind) {
      case 'drop_after':
        reply.hijack();
        request.raw.socket.destroy();
        return;
      case 'truncate':
        reply.hijack();
        reply.raw.writeHead(200, { ...answer.headers, 'content-length': body.byteLength });
        reply.raw.write(body.subarray(0, body.byteLength >> 1), () => request.raw.socket.end());
        return;
      case 'malformed':
        reply.headers(answer.headers).send(Buffer.from('<!doctype html><title>502 Bad Gateway</title>'));
        return;
      default:
        reply.headers(answer.headers).send(Buffer.from(body.buffer, body.byteOffset, body.byteLength));
    }
  }

  /** Ends what waits on purpose, so that the server can close. */
  close(): void {
    this.closing.abort();
    for (const socket of this.hanging) socket.destroy();
  }

  private hang(socket: Socket): void {
    if (this.closed) socket.destroy();
    this.hanging.add(socket);
    socket.once('close', () => this.hanging.delete(socket));
  }
}
