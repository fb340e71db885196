import type { FastifyError, FastifyInstance } from 'fastify';
import { hasZodFastifySchemaValidationErrors } from 'fastify-type-provider-zod';
import type { z } from 'zod';
import {
  CraftError,
  InvalidRequestError,
  NotFoundError,
  PayloadTooLargeError,
  RateLimitError,
  UnsupportedMediaTypeError,
} from '../../errors.js';

/** Every error leaves as `{ error: { message, type, code, param } }`; a bug leaves as a 500 that shows no internals. */
export function registerErrorReplies(app: FastifyInstance): void {
  app.setErrorHandler((error: FastifyError, request, reply) => {
    const known = toCraftError(error);
    if (known) {
      if (known.status >= 500) request.log.warn({ err: known }, 'request failed');
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
  });

  app.setNotFoundHandler((request, reply) => {
    const error = new NotFoundError({
      code: 'route_not_found',
      message: `There is no ${request.method} ${request.url.split('?')[0].slice(0, 200)}. /docs lists what there is.`,
    });
    return reply.code(404).send(errorBody(error));
  });
}

export function errorBody(error: CraftError) {
  return { error: { message: error.message, type: error.type, code: error.code, param: error.param } };
}

function toCraftError(error: FastifyError): CraftError | null {
  if (error instanceof CraftError) return error;
  if (hasZodFastifySchemaValidationErrors(error)) {
    const [first] = error.validation;
    return invalidField(first.instancePath.split('/').filter(Boolean), first.message ?? 'is invalid', first.params);
  }
  switch (error.code) {
    case 'FST_ERR_CTP_BODY_TOO_LARGE':
    case 'FST_REQ_FILE_TOO_LARGE':
      return new PayloadTooLargeError({
        code: 'body_too_large',
        message: 'The request body is larger than this route takes. Send fewer or smaller images per request.',
      });
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
    case 'FST_ERR_CTP_EMPTY_JSON_BODY':
    case 'FST_ERR_CTP_INVALID_JSON_BODY':
      return new InvalidRequestError({
        code: 'invalid_json',
        message: 'The body is not valid JSON. Check its quotes, commas and brackets.',
      });
    case 'FST_PARTS_LIMIT':
    case 'FST_FILES_LIMIT':
    case 'FST_FIELDS_LIMIT':
      return new PayloadTooLargeError({
        code: 'too_many_parts',
        message: 'The multipart body has more parts than this route takes.',
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
  if (unknownKeys.length > 0) {
    const param = [...path, unknownKeys[0]].join('.');
    return new InvalidRequestError({
      code: 'unknown_parameter',
      param,
      message: `${param} is not a parameter here. Remove it or check its spelling.`,
    });
  }
  const param = path.join('.') || null;
  const subject = param ?? 'The request';
  return new InvalidRequestError({ code: 'invalid_parameter', param, message: `${subject}: ${message}` });
}
