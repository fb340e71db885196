import { InvalidRequestError } from './errors.js';

/** Cursor pages of lists that show the newest first. */
export interface PageRequest {
  limit: number;
  /** Id of the last item of the page before. */
  after?: string;
}

export interface Page<Item> {
  data: Item[];
  hasMore: boolean;
}

/** The page from rows of which one more than the limit was asked for. */
export function toPage<Row>(rows: Row[], limit: number): Page<Row> {
  return { data: rows.slice(0, limit), hasMore: rows.length > limit };
}

/** The newest first; ids decide between rows of the same moment. */
export const NEWEST_FIRST = [{ createdAt: 'desc' as const }, { id: 'desc' as const }];

/** Rows that come after `cursor` when the newest come first. */
export function olderThan({ createdAt, id }: { createdAt: Date; id: string }) {
  // The first condition follows from the second; it is the one by which an index is entered at the cursor.
  return { createdAt: { lte: createdAt }, OR: [{ createdAt: { lt: createdAt } }, { createdAt, id: { lt: id } }] };
}

/** Rows that come after `cursor` when the oldest come first. */
export function newerThan({ createdAt, id }: { createdAt: Date; id: string }) {
  return { createdAt: { gte: createdAt }, OR: [{ createdAt: { gt: createdAt } }, { createdAt, id: { gt: id } }] };
}

export function badCursor(after: string): InvalidRequestError {
  return new InvalidRequestError({
    code: 'invalid_cursor',
    param: 'after',
    message: `"${after}" is no id of an item in this list. Use the last id of the page before.`,
  });
}
