import type { Socket } from 'node:net';
import type { ConnectionError, FastifyError, FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import { hasZodFastifySchemaValidationErrors } from 'fastify-type-provider-zod';
import type { z } from 'zod';
import {
  AuthenticationError,
  CraftError,
  InvalidRequestError,
  PayloadTooLargeError,
  RateLimitError,
  UnsupportedMediaTypeError,
} from '../../errors.js';
import { newId } from '../../ids.js';
import { ProviderCallError } from '../../providers/provider-call-error.js';
import { storeAwayError } from './store-away.js';

/** Every error leaves as `{ error: { message, type, code, param } }`; a bug leaves as a 500 that shows no internals. */
export function registerErrorReplies(app: FastifyInstance): void {
  app.setErrorHandler(sendError);
}

export function sendError(error: FastifyError, request: FastifyRequest, reply: FastifyReply) {
  reply.header('x-request-id', request.id);
  const known = toCraftError(error, request) ?? storeAwayError(error);
  if (known) {
    if (known.status >= 500) request.log.warn({ err: known }, 'request failed');
    if (known instanceof AuthenticationError) reply.header('www-authenticate', challengeOf(known));
    if (mustNotBeRepeated(known)) reply.header('x-should-retry', 'false');
    if (known.retryAfterSeconds !== undefined) reply.header('retry-after', Math.ceil(known.retryAfterSeconds));
    return reply.code(known.status).send(errorBody(known));
  }
  request.log.error({ err: error }, 'unexpected error');
  return reply.code(500).send({
    error: {
      message: `Something went wrong inside the service. Try again; if it persists, tell the operator request id ${request.id}.`,
      type: 'server_error',
      code: 'internal_error',
      param: null,
    },
  });
}

/** How to authenticate (RFC 9110, 11.6.1; RFC 6750, 3: no error is named to those who sent no key). */
function challengeOf({ code }: AuthenticationError): string {
  return code === 'missing_api_key' ? 'Bearer' : 'Bearer error="invalid_token"';
}

/**
 * OpenAI's SDKs repeat 409 and everything from 500 on by themselves, unless this is said. A conflict stays one, unless it says
 * until when, and a provider call that may have been billed would be paid for again.
 */
function mustNotBeRepeated(error: CraftError): boolean {
  if (error.status === 409) return error.retryAfterSeconds === undefined;
  return error instanceof ProviderCallError && error.billing !== 'unbilled';
}

/** Answers what is not even HTTP, in the same form, and hangs up. */
export function answerHttpError(error: ConnectionError, socket: Socket): void {
  if (error.code === 'ECONNRESET' || !socket.writable) {
    socket.destroy();
    return;
  }
  const reason = HTTP_ERRORS[error.code] ?? {
    status: '400 Bad Request',
    code: 'invalid_http',
    message: 'This is not a request of HTTP/1.1. Check the client, and whether it should speak http rather than https.',
  };
  const { status, ...detail } = reason;
  const body = JSON.stringify(errorBody(new CraftError(Number.parseInt(status, 10), 'invalid_request_error', detail)));
  socket.end(
    `HTTP/1.1 ${status}\r\ncontent-type: application/json; charset=utf-8\r\ncontent-length: ${Buffer.byteLength(body)}\r\n` +
      `x-request-id: ${newId('req-')}\r\nconnection: close\r\n\r\n${body}`,
  );
}

const HTTP_ERRORS: Record<string, { status: string; code: string; message: string }> = {
  HPE_HEADER_OVERFLOW: {
    status: '431 Request Header Fields Too Large',
    code: 'headers_too_large',
    message: 'The headers are too large. Send fewer or shorter headers.',
  },
  ERR_HTTP_REQUEST_TIMEOUT: {
    status: '408 Request Timeout',
    code: 'request_timeout',
    message: 'The request did not arrive in time. Send it again.',
  },
};

export function errorBody(error: CraftError) {
  return { error: { message: error.message, type: error.type, code: error.code, param: error.param } };
}

function toCraftError(error: FastifyError, request: FastifyRequest): CraftError | null {
  if (error instanceof CraftError) return error;
  if (hasZodFastifySchemaValidationErrors(error)) {
    const [first] = error.validation;
    const path = first.instancePath.split('/').filter(Boolean);
    const query = request.query as Record<string, unknown>;
    if (error.validationContext === 'querystring' && Array.isArray(query[path[0]])) {
      return repeatedParameter(path[0], 'URL');
    }
    return invalidField(path, first.message ?? 'is invalid', first.params);
  }
  switch (error.code) {
    case 'FST_ERR_CTP_BODY_TOO_LARGE':
    case 'FST_REQ_FILE_TOO_LARGE':
      return bodyTooLarge();
    case 'FST_ERR_CTP_INVALID_MEDIA_TYPE':
      return new UnsupportedMediaTypeError({
        code: 'unsupported_media_type',
        message:
          'This route does not take that Content-Type. Send application/json, or multipart/form-data where the documentation says so.',
      });
    case 'FST_INVALID_MULTIPART_CONTENT_TYPE':
      return new UnsupportedMediaTypeError({
        code: 'multipart_expected',
        message: 'Send this request as multipart/form-data.',
      });
    case 'FST_ERR_CTP_INVALID_JSON_BODY':
      return new InvalidRequestError({
        code: 'invalid_json',
        message: 'The body is not valid JSON, or has a key __proto__. Check its quotes, commas and brackets.',
      });
    case 'FST_PARTS_LIMIT':
    case 'FST_FILES_LIMIT':
    case 'FST_FIELDS_LIMIT':
      return new PayloadTooLargeError({
        code: 'too_many_parts',
        message: 'The multipart body has more parts than this route takes. Send fewer.',
      });
    case 'FST_PROTO_VIOLATION':
      return new InvalidRequestError({
        code: 'malformed_form',
        message: 'A form field has a name that every object has, such as __proto__. Send only the documented fields.',
      });
    case 'FST_ERR_BAD_URL':
    case 'FST_ERR_MAX_PARAM_LENGTH':
      return new InvalidRequestError({
        code: 'invalid_url',
        message: 'The URL cannot be read. Use shorter ids, and percent-encode what is not plain ASCII, as UTF-8.',
      });
    default:
  }
  if (error.statusCode === 429) {
    return new RateLimitError({
      code: 'rate_limited',
      message: 'Too many requests with this API key. Wait as long as Retry-After says.',
    });
  }
  if (error.statusCode !== undefined && error.statusCode >= 400 && error.statusCode < 500) {
    return new CraftError(error.statusCode, 'invalid_request_error', {
      code: 'invalid_request',
      message: error.message,
    });
  }
  return null;
}

export function bodyTooLarge(): PayloadTooLargeError {
  return new PayloadTooLargeError({
    code: 'body_too_large',
    message: 'The request body is larger than this route takes. Send fewer or smaller images per request.',
  });
}

export function unknownParameter(param: string): InvalidRequestError {
  return new InvalidRequestError({
    code: 'unknown_parameter',
    param,
    message: `${param} is not a parameter here. Remove it or check its spelling.`,
  });
}

/** Either value may be the one that is meant. */
export function repeatedParameter(param: string, place: 'URL' | 'form'): InvalidRequestError {
  return new InvalidRequestError({
    code: 'repeated_parameter',
    param,
    message: `${param} is in the ${place} more than once. Send it once.`,
  });
}

/**
 * Checks what is not checked by a route's schema (multipart fields, a body of either kind).
 * @throws InvalidRequestError naming the field
 */
export function parseInput<Schema extends z.ZodType>(schema: Schema, value: unknown): z.output<Schema> {
  const parsed = schema.safeParse(value);
  if (parsed.success) return parsed.data;
  const [issue] = parsed.error.issues;
  throw invalidField(issue.path.map(String), issue.message, { ...issue });
}

function invalidField(path: string[], message: string, issue: Record<string, unknown>): InvalidRequestError {
  const unknownKeys = Array.isArray(issue.keys) ? issue.keys.map(String) : [];
  if (unknownKeys.length > 0) return unknownParameter([...path, unknownKeys[0]].join('.'));
  const param = path.join('.') || null;
  return new InvalidRequestError({ code: 'invalid_parameter', param, message: inWords(param, message) });
}

function inWords(param: string | null, message: string): string {
  if (param === null && /received (undefined|null)$/.test(message)) {
    return 'The request has no JSON body. Send a JSON object with Content-Type: application/json.';
  }
  const missing = /^Invalid input: expected (\w+), received undefined$/.exec(message)?.[1];
  if (missing === undefined) return `${param ?? 'The request'}: ${message}`;
  return `${param} is missing. Send ${KINDS[missing] ?? missing}.`;
}

const KINDS: Record<string, string> = {
  string: 'a string',
  number: 'a number',
  int: 'a whole number',
  boolean: 'true or false',
  object: 'an object',
  array: 'an array',
};
