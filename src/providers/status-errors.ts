import { ProviderCallError } from './provider-call-error.js';
import { type ProviderWords, readProviderWords } from './provider-words.js';
import { retryAfterSeconds } from './rate-headers.js';
import type { Redactor } from './redactor.js';
import type { TransportResponse } from './transport-response.js';

const MOST_QUOTED = 300;
/** However long a provider says to wait, it may be asked again after this time. */
const LONGEST_WAIT_SECONDS = 86_400;
/** Codes of a 429 that no waiting mends. */
const NOT_PAID = /^(insufficient_quota|billing_hard_limit_reached|billing_not_active|insufficient_balance)$/;

/** Why an answer whose status is not 2xx is a failure, whether trying again may help, and what does. */
export function statusError(
  response: TransportResponse,
  context: { providerName: string; unbilledStatuses: number[]; unbilledWhileLoading?: boolean; redactor: Redactor },
): ProviderCallError {
  const { status } = response;
  const words = readProviderWords(response.body);
  const { code, says, retryable } = meaningOf(response, words);
  const { redactor } = context;
  const wait = retryAfterSeconds(response) ?? words.estimatedSeconds;
  const isLoading = status === 503 && words.estimatedSeconds !== undefined;
  const isUnbilled = status === 429 || context.unbilledStatuses.includes(status);
  const quoted = words.said === undefined ? '' : ` It said: ${redactor.text(words.said).slice(0, MOST_QUOTED)}`;
  return new ProviderCallError({
    code,
    message: `Provider "${context.providerName}" ${redactor.text(says)}${quoted}`,
    retryable,
    billing: isUnbilled || (isLoading && context.unbilledWhileLoading) ? 'unbilled' : 'unknown',
    retryAfterSeconds: wait === undefined ? undefined : Math.min(wait, LONGEST_WAIT_SECONDS),
    providerStatus: status,
    providerCode: words.code === undefined ? undefined : redactor.text(words.code),
  });
}

interface Meaning {
  code: string;
  /** Goes on from the provider's name, and ends with the remedy. */
  says: string;
  retryable: boolean;
}

function meaningOf({ status, headers }: TransportResponse, words: ProviderWords): Meaning {
  if (status < 400) return redirect(status, headers.location);
  const refused = (says: string): Meaning => ({ code: 'provider_refused_request', says, retryable: false });
  const passing = (says: string): Meaning => ({ code: 'provider_unavailable', says, retryable: true });
  switch (status) {
    case 401:
    case 403:
      return {
        code: 'provider_credentials_refused',
        says: `refused our credentials (${status}). Update them with PATCH /v1/providers.`,
        retryable: false,
      };
    case 402:
      return notPaid(status);
    case 404:
      return refused('answered 404 (model or path not found). Check its base_url and remote_model.');
    case 408:
      return passing('answered 408 (it waited too long for the request). Lower images_per_request in its record.');
    case 409:
    case 425:
      return passing(`answered ${status} (not now). Try again.`);
    case 413:
      return refused('answered 413 (request too large). Lower limits.max_request_bytes in its record.');
    case 429:
      if (words.code !== undefined && NOT_PAID.test(words.code)) return notPaid(status);
      return {
        code: 'provider_rate_limited',
        says: 'answered 429 (too many requests). Lower requests_per_second in its record.',
        retryable: true,
      };
    default:
      if (status >= 500) return passing(`answered ${status}. If that persists, ask whoever runs it.`);
      return refused(`answered ${status}. Check its base_url, remote_model and settings.`);
  }
}

function notPaid(status: number): Meaning {
  return {
    code: 'provider_payment_required',
    says: `answered ${status} (nothing is left of what was paid to it). Top up the account there, or check its plan.`,
    retryable: false,
  };
}

function redirect(status: number, location: string | string[] | undefined): Meaning {
  const target = typeof location === 'string' && URL.canParse(location) ? new URL(location).host : undefined;
  const where = target === undefined ? 'elsewhere' : `to ${target}`;
  return {
    code: 'provider_redirects',
    says: `redirects ${where} (${status}), which is not followed. Put the final URL into base_url in its record.`,
    retryable: false,
  };
}
