import { InvalidRequestError } from '../errors.js';
import { badCursor } from '../paging.js';

/** Events are numbered in Postgres; outside their number has a prefix, as all ids have. */
const EVENT_ID_PREFIX = 'ftevent-';

export function eventId(id: bigint): string {
  return `${EVENT_ID_PREFIX}${id}`;
}

/** @param param where the id came from, for the error */
export function parseEventId(text: string, param = 'after'): bigint {
  const digits = /^ftevent-(\d{1,18})$/.exec(text)?.[1];
  if (digits !== undefined) return BigInt(digits);
  if (param === 'after') throw badCursor(text);
  throw new InvalidRequestError({
    code: 'invalid_cursor',
    param,
    message: `"${text.slice(0, 64)}" is no id of an event. Send the last id that the stream gave, or leave it out.`,
  });
}
