import pg from 'pg';
import { describeConnection, openSession } from './connection-string.js';

const CONNECT_MS = 10_000;

/** Postgres does not answer, does not let us in, or its sessions are not what our statements rely on. */
export class DatabaseUnreachableError extends Error {
  override readonly name = 'DatabaseUnreachableError';
}

/**
 * Opens two sessions as everybody else here does, and looks whether they are ours alone and keep their settings.
 * @returns the schema that tables are made in
 * @throws DatabaseUnreachableError saying what to change in DATABASE_URL
 */
export async function checkConnection(connectionString: string): Promise<string> {
  const clients: pg.Client[] = [];
  const { schema: named } = openSession(connectionString);
  try {
    if (named !== undefined) checkName(named);
    const [first, second] = [newClient(connectionString), newClient(connectionString)];
    clients.push(first, second);
    await first.connect();
    await second.connect();
    const { rows } = await first.query(
      `SELECT pg_backend_pid() AS backend, current_setting('TimeZone') AS zone, coalesce(
         (SELECT nspname FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace WHERE c.oid = to_regclass('_prisma_migrations')),
         current_schema()) AS schema`,
    );
    const other = await second.query('SELECT pg_backend_pid() AS backend');
    const { backend, schema, zone } = rows[0];
    if (backend === other.rows[0].backend || zone !== 'UTC') throw new UnusableError(POOLED);
    return checkName(named ?? schema ?? 'public');
  } catch (cause) {
    throw new DatabaseUnreachableError(
      `Postgres at ${describeConnection(connectionString)} cannot be used: ${reasonOf(cause)}`,
      { cause },
    );
  } finally {
    for (const client of clients) await client.end().catch(() => {});
  }
}

/** It can be reached, but not worked with. */
class UnusableError extends Error {}

/** The queue's schema has a name made from it. */
const SCHEMA_NAME = /^[A-Za-z_]\w{0,49}$/;

function checkName(schema: string): string {
  if (SCHEMA_NAME.test(schema)) return schema;
  throw new UnusableError(`a schema named ${schema} is not supported. Choose letters, digits and _ (50 at most).`);
}

/** Two clients share a session, or its settings are dropped or refused. */
const POOLED =
  'a connection pooler in between does not keep sessions and their settings apart. Give DATABASE_URL the address of Postgres ' +
  'itself; craft-server pools its connections.';

function newClient(connectionString: string): pg.Client {
  const { connectionString: address, options } = openSession(connectionString);
  const client = new pg.Client({ connectionString: address, options, connectionTimeoutMillis: CONNECT_MS });
  // A connection that breaks rejects the query in flight; without a listener it would end the process as well.
  client.on('error', () => {});
  return client;
}

const CHECK = 'Check DATABASE_URL, or leave it unset to use the Postgres that craft-server brings along.';
const AUTHORITY =
  'its certificate comes from an authority that is not known here. Add sslmode=verify-full&sslrootcert=<file with the ' +
  "authority's certificate> to DATABASE_URL.";

/** What went wrong, in words of our own: messages of drivers may repeat the connection string. */
function reasonOf(cause: unknown): string {
  const { code = '', message, path } = cause as { code?: string; message: string; path?: string };
  if (cause instanceof UnusableError) return message;
  if (code === '08P01' && message.includes('startup parameter')) return POOLED;
  if (code === 'ENOENT' && path?.includes('.s.PGSQL') === false) return `${path} is not there. ${CHECK}`;
  const reasons: Record<string, string> = {
    ECONNREFUSED: 'nothing listens there.',
    ENOENT: 'nothing listens there.',
    ENOTFOUND: 'its host name is not known.',
    EAI_AGAIN: 'its host name cannot be looked up now.',
    ETIMEDOUT: 'it does not answer.',
    '28P01': 'it refuses the user name or password.',
    '28000': 'it refuses the user.',
    '3D000': 'it has no database of that name.',
    '53300': 'it has no connection left.',
    '57P03': 'it is starting up or shutting down.',
    CERT_HAS_EXPIRED: 'its certificate has expired.',
    ERR_TLS_CERT_ALTNAME_INVALID: 'its certificate is not for the host name in DATABASE_URL.',
    SELF_SIGNED_CERT_IN_CHAIN: AUTHORITY,
    DEPTH_ZERO_SELF_SIGNED_CERT: AUTHORITY,
    UNABLE_TO_VERIFY_LEAF_SIGNATURE: AUTHORITY,
    UNABLE_TO_GET_ISSUER_CERT: AUTHORITY,
    UNABLE_TO_GET_ISSUER_CERT_LOCALLY: AUTHORITY,
  };
  if (/does not support SSL/.test(message)) return `it takes no TLS connections, which sslmode asks for. ${CHECK}`;
  const reason = reasons[code] ?? (code === '' ? 'it does not answer in time.' : `the connection failed (${code}).`);
  return `${reason} ${CHECK}`;
}
