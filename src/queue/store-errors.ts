/** Another installation's queue is in that database of Redis. */
export class ForeignQueueError extends Error {
  override readonly name = 'ForeignQueueError';
}

const AUTHORITY =
  'its certificate comes from an authority that is not known here (NODE_EXTRA_CA_CERTS=<file> makes one known)';

/** Of Redis: what its message contains, and what that means. */
const REDIS_REASONS: [sign: RegExp, reason: string][] = [
  [/^(WRONGPASS|ERR invalid password)/, 'it refuses the user name or password'],
  [/^(NOAUTH|ERR Client sent AUTH)/, 'it asks for a password, or takes none: redis://user:password@host:6379'],
  [/^NOPERM/, 'its user may not do what the queue needs: allow all commands (+@all) on the keys craft:*'],
  [/DB index is out of range/, 'it has no database of the number at the end of REDIS_URL'],
  [/ECONNREFUSED/, 'nothing listens there'],
  [/ENOTFOUND|EAI_AGAIN/, 'its host name is not known'],
  [/^LOADING/, 'it still loads its data'],
  [/Redis version needs to be/, 'its version is too old; 6.2 is the oldest that is supported'],
  [/self-signed certificate|unable to (verify|get)/, AUTHORITY],
  [
    /^Client network socket disconnected before secure TLS|wrong version number/,
    'it speaks no TLS: redis:// in place of rediss://',
  ],
];

/** The reason in words of our own, as far as it is known: what drivers say may repeat credentials. */
export function reasonOf(kind: 'redis' | 'postgres', error: unknown): string | undefined {
  if (!(error instanceof Error)) return undefined;
  if (error instanceof ForeignQueueError) return error.message;
  const { code } = error as { code?: string };
  if (kind === 'postgres') {
    if (code !== '42501') return undefined;
    return 'its user may not make the schema of the queue (GRANT CREATE ON DATABASE … TO …, or use Redis: REDIS_URL)';
  }
  return REDIS_REASONS.find(([sign]) => sign.test(error.message) || (code !== undefined && sign.test(code)))?.[1];
}

/** Whether waiting will not help: what Redis answers then is taken by its client for a reason to go on in database 0. */
export function isFinal(error: unknown): boolean {
  return error instanceof Error && /DB index is out of range|^WRONGPASS|^NOAUTH|^NOPERM/.test(error.message);
}
