import { createHash } from 'node:crypto';
import type { FastifyReply, FastifyRequest } from 'fastify';
import type { EncodedBody } from '../formats/open-inference-binary.js';
import { bearerKey, type KeyReader } from './authentication.js';
import type { Delivery } from './delivery.js';
import type { EmojiClip } from './emoji-clip.js';
import { idempotencyKey } from './idempotency-key.js';
import { type ContentFault, contentFault, type Misbehaviour } from './misbehaviour.js';
import type { Order, Purchases } from './purchases.js';
import { clientName, type Served } from './usage-counter.js';

/** What the routes of every protocol share. */
export interface Service {
  model: EmojiClip;
  purchases: Purchases;
  misbehaviour: Misbehaviour;
  delivery: Delivery;
  apiKeys?: string[];
  /** Largest request body in bytes. */
  bodyLimit: number;
}

/** A request that has been read. */
export type Question = Omit<Order<EncodedBody>, 'client' | 'idempotencyKey'>;

export interface JsonQuestion {
  served: Served;
  /** All on which the numbers of the answer depend, as JSON. */
  about: unknown;
  compute(): Promise<Float32Array>;
  /** The answer's body, spoilt where `fault` says so. */
  answer(numbers: Float32Array, fault: ContentFault | undefined): unknown;
}

type Handler = (request: FastifyRequest, reply: FastifyReply) => Promise<FastifyReply>;

/** A handler that reads a request, answers it from the model, and counts and delivers the answer. */
export function exchange(
  { purchases, misbehaviour, delivery }: Service,
  read: (request: FastifyRequest, fault: ContentFault | undefined) => Question,
  keyOf: KeyReader = bearerKey,
): Handler {
  return async (request, reply) => {
    const verdict = misbehaviour.next();
    if (await delivery.interrupts(verdict, request, reply)) return reply;
    const answer = await purchases.serve({
      client: clientName(keyOf(request)),
      idempotencyKey: purchases.idempotencyWindowSeconds === undefined ? undefined : idempotencyKey(request),
      ...read(request, contentFault(verdict.fault)),
    });
    delivery.send(answer, verdict.fault, request, reply);
    return reply;
  };
}

/** As {@link exchange}, for bodies that are JSON on both ways. */
export function jsonExchange(service: Service, read: (body: unknown) => JsonQuestion, keyOf?: KeyReader): Handler {
  return exchange(
    service,
    (request, fault) => {
      const { served, about, compute, answer } = read(request.body);
      return {
        served,
        question: () => createHash('sha256').update(JSON.stringify(about)).digest('hex'),
        compute,
        encode: (numbers) => ({
          headers: { 'content-type': 'application/json; charset=utf-8' },
          body: Buffer.from(JSON.stringify(answer(numbers, fault))),
        }),
      };
    },
    keyOf,
  );
}
