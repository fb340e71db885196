import { ProviderError } from '../errors.js';

/**
 * What is known about payment after a call failed. `unbilled` only where it is certain: the connection was never made,
 * or the answer's status is one that the provider's record declares unbilled. Everything else stays counted.
 */
export type Billing = 'unbilled' | 'unknown' | 'billed';

/** A failed provider call: why, whether trying again may help, and whether it may have been paid for. */
export class ProviderCallError extends ProviderError {
  readonly billing: Billing;
  readonly retryable: boolean;
  /** The HTTP status of the provider's answer, where there was one. */
  readonly providerStatus?: number;
  /** The `code` in the provider's own error answer, where it sent one. */
  readonly providerCode?: string;

  constructor(detail: {
    code: string;
    message: string;
    billing: Billing;
    retryable: boolean;
    retryAfterSeconds?: number;
    providerStatus?: number;
    providerCode?: string;
    cause?: unknown;
  }) {
    super(detail);
    this.providerStatus = detail.providerStatus;
    this.providerCode = detail.providerCode;
    this.billing = detail.billing;
    this.retryable = detail.retryable;
  }
}
