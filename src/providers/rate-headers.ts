/** What the headers of an answer say of when the next request may be sent. Seconds are never negative. */

export type Headers = Record<string, string | string[] | undefined>;

/** Unix time rather than a duration: nobody asks to wait for thirty years. */
const UNIX_SECONDS = 1e9;
const UNIX_MILLISECONDS = 1e12;

const UNIT_SECONDS: Record<string, number> = { ms: 0.001, s: 1, m: 60, h: 3600, d: 86_400 };

/** Limits that providers state, each with what is left of it and when it is full again. */
const LIMITS = [
  { remaining: 'x-ratelimit-remaining-requests', reset: 'x-ratelimit-reset-requests' },
  { remaining: 'x-ratelimit-remaining-tokens', reset: 'x-ratelimit-reset-tokens' },
  { remaining: 'x-ratelimit-remaining', reset: 'x-ratelimit-reset' },
  { remaining: 'ratelimit-remaining', reset: 'ratelimit-reset' },
];

/** The status that the headers of limits explain. */
const TOO_MANY_REQUESTS = 429;

/**
 * Seconds after which a failed request may be sent again, from whatever header says so; undefined where none does. Most
 * answers say when limits are full again; that explains a 429 only.
 */
export function retryAfterSeconds({ status, headers }: { status: number; headers: Headers }): number | undefined {
  const milliseconds = plainNumber(first(headers['retry-after-ms']));
  if (milliseconds !== undefined) return milliseconds / 1000;
  return (
    instantOrSeconds(first(headers['retry-after'])) ??
    (status === TOO_MANY_REQUESTS ? resetSeconds(headers) : undefined)
  );
}

/** Seconds until a limit that this answer used up is filled again; undefined where none is used up or none says when. */
export function exhaustedSeconds(headers: Headers): number | undefined {
  return longestReset(headers, (remaining) => plainNumber(remaining) === 0);
}

/** The limit that was hit is the one with nothing left; where no header tells which, the longest wait is the safe one. */
function resetSeconds(headers: Headers): number | undefined {
  return exhaustedSeconds(headers) ?? longestReset(headers, (remaining) => remaining === undefined);
}

function longestReset(headers: Headers, counts: (remaining: string | undefined) => boolean): number | undefined {
  const known = LIMITS.filter(({ remaining }) => counts(first(headers[remaining])))
    .map(({ reset }) => durationOf(first(headers[reset])))
    .filter((value) => value !== undefined);
  return known.length === 0 ? undefined : Math.max(...known);
}

/** Such as `1s`, `6m0s`, `20ms`, `1m2.5s`, or what {@link instantOrSeconds} reads. */
function durationOf(value: string | undefined): number | undefined {
  if (value === undefined || !/^(\d+(\.\d+)?(ms|s|m|h|d))+$/.test(value)) return instantOrSeconds(value);
  let seconds = 0;
  for (const [, amount, unit] of value.matchAll(/(\d+(?:\.\d+)?)(ms|s|m|h|d)/g)) {
    seconds += Number(amount) * UNIT_SECONDS[unit];
  }
  return seconds;
}

/** Date.parse takes many things for a date. */
const DATE = /^[A-Z][a-z]{2,8}, \d|^\d{4}-\d{2}-\d{2}T/;

/** Seconds, Unix time (in seconds or milliseconds) or an HTTP or ISO date. */
function instantOrSeconds(value: string | undefined): number | undefined {
  if (value === undefined) return undefined;
  const number = plainNumber(value);
  if (number !== undefined && number < UNIX_SECONDS) return number;
  const instant = number === undefined ? parseDate(value) : number < UNIX_MILLISECONDS ? number * 1000 : number;
  return instant === undefined ? undefined : Math.max(0, (instant - Date.now()) / 1000);
}

function parseDate(value: string): number | undefined {
  const instant = DATE.test(value) ? Date.parse(value) : Number.NaN;
  return Number.isNaN(instant) ? undefined : instant;
}

function plainNumber(value: string | undefined): number | undefined {
  return value !== undefined && /^\d+(\.\d+)?$/.test(value) ? Number(value) : undefined;
}

function first(value: string | string[] | undefined): string | undefined {
  return (Array.isArray(value) ? value[0] : value)?.trim();
}
