/**
 * Splits the `options` parameter (settings of the session, `-c name=value …`) off a connection string. Where a
 * connection string has one, `pg` prefers it to the `options` of its configuration, which would then be lost.
 */
export function splitSessionOptions(connectionString: string): { connectionString: string; options: string } {
  const url = new URL(connectionString);
  const options = url.searchParams.get('options') ?? '';
  if (options === '') return { connectionString, options };
  url.searchParams.delete('options');
  return { connectionString: url.href, options };
}

/** Host, port and database of a connection string: what may be shown, without user and password. */
export function describeConnection(connectionString: string): string {
  if (!URL.canParse(connectionString)) return 'the given address';
  const { hostname, port, pathname } = new URL(connectionString);
  return `${hostname || 'localhost'}${port === '' ? '' : `:${port}`}${pathname}`;
}
