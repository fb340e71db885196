import type { FastifyError, FastifyReply, FastifyRequest } from 'fastify';
import { CraftError } from '../errors.js';
import { OpenInferenceFormatError } from '../formats/open-inference-binary.js';

/** Why a request is not answered, before a protocol gives it its form. */
export interface Problem {
  status: number;
  message: string;
  code?: string;
  /** The request field that is to blame. */
  param: string | null;
  cause: Error;
}

type AnyError = FastifyError | CraftError | OpenInferenceFormatError;

/** An error handler that answers in the form of one protocol. */
export function errorHandler(bodyLimit: number, bodyOf: (problem: Problem) => unknown) {
  return (error: AnyError, request: FastifyRequest, reply: FastifyReply): FastifyReply => {
    const problem = problemOf(error, bodyLimit);
    if (problem.status >= 500 && !(error instanceof CraftError)) request.log.error({ err: error }, 'unexpected error');
    if (error instanceof CraftError && error.retryAfterSeconds !== undefined) {
      reply.header('retry-after', String(error.retryAfterSeconds));
    }
    return reply.code(problem.status).send(bodyOf(problem));
  };
}

function problemOf(error: AnyError, bodyLimit: number): Problem {
  if (error instanceof OpenInferenceFormatError) {
    return { status: 400, message: error.message, code: `format_${error.code}`, param: null, cause: error };
  }
  if (error instanceof CraftError) {
    const { status, message, code, param } = error;
    return { status, message, code, param, cause: error };
  }
  if (error.statusCode === 413) {
    const message = `The body is larger than ${bodyLimit} bytes.`;
    return { status: 413, message, code: 'body_too_large', param: null, cause: error };
  }
  if (error.statusCode !== undefined && error.statusCode < 500) {
    return { status: error.statusCode, message: error.message, param: null, cause: error };
  }
  return { status: 500, message: 'Internal error.', param: null, cause: error };
}
