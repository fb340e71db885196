import type { FastifyReply, FastifyRequest } from 'fastify';
import Negotiator from 'negotiator';

/** The media type in which a caller would rather have an answer; the first where it names none of these. */
export function preferredType<Type extends string>(request: FastifyRequest, reply: FastifyReply, types: Type[]): Type {
  const vary = reply.getHeader('vary');
  reply.header('vary', vary === undefined ? 'Accept' : `${vary}, Accept`);
  return (new Negotiator(request).mediaType(types) as Type | undefined) ?? types[0];
}
