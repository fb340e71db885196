import { InvalidRequestError } from '../errors.js';

/**
 * `refused`: the URL is none that is called, or what answers there will not give it; `unreachable`: no whole answer came,
 * which may pass; `too_large`: more bytes than the limit.
 */
export type ResourceFailure = 'refused' | 'unreachable' | 'too_large';

/** 400: what a caller's URL names could not be fetched. */
export class ResourceError extends InvalidRequestError {
  constructor(
    readonly failure: ResourceFailure,
    message: string,
    cause?: unknown,
  ) {
    super({ code: `resource_${failure}`, message, cause });
  }
}
