/** What a connection of ours is opened with. */
export interface Session {
  connectionString: string;
  /** Settings of the session, `-c name=value …`. */
  options: string;
  /** Where our tables are, if not in `public`. */
  schema?: string;
}

/**
 * What our statements rely on, whatever is set for the database or the role: Prisma's adapter takes every timestamp for UTC,
 * and the ledger's functions lock first and then read what others have committed.
 */
const RELIED_ON = '-c TimeZone=UTC -c default_transaction_isolation=read\\ committed';

/**
 * Splits the parameters `options` and `schema` off a connection string: where it has the first, `pg` prefers it to the `options`
 * of its configuration, which would then be lost; the second it does not know.
 */
export function openSession(connectionString: string): Session {
  const url = new URL(connectionString);
  const given = url.searchParams.get('options') ?? '';
  const schema = url.searchParams.get('schema') ?? undefined;
  const searchPath = schema === undefined ? '' : `-c search_path="${schema}"`;
  const options = [given, searchPath, RELIED_ON].filter((part) => part !== '').join(' ');
  if (given === '' && schema === undefined) return { connectionString, options };
  url.searchParams.delete('options');
  url.searchParams.delete('schema');
  return { connectionString: url.href, options, schema };
}

/** The same database, with our tables in that schema. */
export function withSchema(connectionString: string, schema: string): string {
  const url = new URL(connectionString);
  url.searchParams.set('schema', schema);
  return url.href;
}

/** Host, port and database of a connection string: what may be shown, without user and password. */
export function describeConnection(connectionString: string): string {
  if (!URL.canParse(connectionString)) return 'the given address';
  const { hostname, port, pathname } = new URL(connectionString);
  return `${hostname || 'localhost'}${port === '' ? '' : `:${port}`}${pathname}`;
}
