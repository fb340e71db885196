/**
 * The errors a caller can meet. Each knows its HTTP status, a stable machine-readable code and, where one is to blame,
 * the request field (`param`). The message states the remedy. Anything else that is thrown is a bug and becomes a
 * plain 500 that shows no internals.
 */
export const ERROR_TYPES = [
  'invalid_request_error',
  'authentication_error',
  'not_found_error',
  'conflict_error',
  'rate_limit_error',
  'budget_error',
  'provider_error',
  'server_error',
] as const;
export type ErrorType = (typeof ERROR_TYPES)[number];

export interface ErrorDetail {
  /** Stable snake_case identifier that programs may branch on. */
  code: string;
  message: string;
  /** The request field that is to blame, as a path such as `method.craft.hyperparameters.population_size`. */
  param?: string | null;
  cause?: unknown;
  /** Seconds after which the same request may succeed (becomes `Retry-After`). */
  retryAfterSeconds?: number;
}

export class CraftError extends Error {
  readonly status: number;
  readonly type: ErrorType;
  readonly code: string;
  readonly param: string | null;
  readonly retryAfterSeconds?: number;

  constructor(status: number, type: ErrorType, detail: ErrorDetail) {
    super(detail.message, detail.cause === undefined ? undefined : { cause: detail.cause });
    this.name = new.target.name;
    this.status = status;
    this.type = type;
    this.code = detail.code;
    this.param = detail.param ?? null;
    this.retryAfterSeconds = detail.retryAfterSeconds;
  }
}

/** 400: the request is malformed or asks for something impossible. */
export class InvalidRequestError extends CraftError {
  constructor(detail: ErrorDetail) {
    super(400, 'invalid_request_error', detail);
  }
}

/** 401: no API key, or one that is not known. */
export class AuthenticationError extends CraftError {
  constructor(detail: ErrorDetail) {
    super(401, 'authentication_error', detail);
  }
}

/** 404: the resource does not exist. */
export class NotFoundError extends CraftError {
  constructor(detail: ErrorDetail) {
    super(404, 'not_found_error', detail);
  }
}

/** 405: the path takes other methods. */
export class MethodNotAllowedError extends CraftError {
  constructor(detail: ErrorDetail) {
    super(405, 'invalid_request_error', detail);
  }
}

/** 409: the resource is in a state that does not allow the request. */
export class ConflictError extends CraftError {
  constructor(detail: ErrorDetail) {
    super(409, 'conflict_error', detail);
  }
}

/** 413: more bytes than the limit. */
export class PayloadTooLargeError extends CraftError {
  constructor(detail: ErrorDetail) {
    super(413, 'invalid_request_error', detail);
  }
}

/** 415: a media type that the endpoint does not take. */
export class UnsupportedMediaTypeError extends CraftError {
  constructor(detail: ErrorDetail) {
    super(415, 'invalid_request_error', detail);
  }
}

/** 429 from our own rate limit. */
export class RateLimitError extends CraftError {
  constructor(detail: ErrorDetail) {
    super(429, 'rate_limit_error', detail);
  }
}

/** 402: a limit of the query budget would be passed. Nothing was spent. */
export class BudgetExceededError extends CraftError {
  constructor(detail: ErrorDetail) {
    super(402, 'budget_error', detail);
  }
}

/** 502: the black-box provider failed, or answered something that cannot be understood. */
export class ProviderError extends CraftError {
  constructor(detail: ErrorDetail, status = 502) {
    super(status, 'provider_error', detail);
  }
}
