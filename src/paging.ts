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
export function olderThan(cursor: { createdAt: Date; id: string }) {
  return {
    OR: [{ createdAt: { lt: cursor.createdAt } }, { createdAt: cursor.createdAt, id: { lt: cursor.id } }],
  };
}

export function badCursor(after: string): InvalidRequestError {
  return new InvalidRequestError({
    code: 'invalid_cursor',
    param: 'after',
    message: `"${after}" is no id of an item in this list. Use the last id of the page before.`,
  });
}
