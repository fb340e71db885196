import { CraftError } from '../../errors.js';

/** Prisma: not reached, not in time, connection closed, no connection or transaction free in time, too many connections. */
const PRISMA_CODES = ['P1001', 'P1002', 'P1008', 'P1017', 'P2024', 'P2028', 'P2037'];
/** Of Prisma's driver. */
const DRIVER_KINDS = ['DatabaseNotReachable', 'ConnectionClosed', 'SocketTimeout', 'TooManyConnections'];
/** Postgres' own: connection lost, server stopping or starting, too many connections; and the system's. */
const CODES =
  /^(08...|57P0[1-5]|53300|ECONNREFUSED|ECONNRESET|EPIPE|ETIMEDOUT|EHOSTUNREACH|ENETUNREACH|ENOTFOUND|EAI_AGAIN)$/;
/** Of what Postgres' driver has no code for: hung up on, no connection in time. */
const MESSAGES =
  /^(Connection terminated|timeout exceeded when trying to connect|Client has encountered a connection error|Query read timeout)/;

/**
 * What a request is told that met Postgres or the queue's store while it was away; null where that was not it. What goes
 * wrong at providers and behind callers' URLs has errors of its own and never comes here.
 */
export function storeAwayError(error: unknown): CraftError | null {
  if (!isStoreAway(error)) return null;
  return new CraftError(503, 'server_error', {
    code: 'not_ready',
    message: 'Postgres or the queue does not answer. Try again shortly.',
    retryAfterSeconds: 5,
    cause: error,
  });
}

interface DriverCause {
  kind?: unknown;
  originalCode?: unknown;
}

function isStoreAway(error: unknown): boolean {
  if (!(error instanceof Error)) return false;
  if (error.name === 'MaxRetriesPerRequestError' || MESSAGES.test(error.message)) return true;
  // Of statements of our own Prisma says only within that they failed because Postgres was away.
  const { code, cause, meta } = error as {
    code?: unknown;
    cause?: DriverCause;
    meta?: { driverAdapterError?: { cause?: DriverCause } };
  };
  const causes = [cause, meta?.driverAdapterError?.cause];
  if (causes.some((known) => DRIVER_KINDS.includes(String(known?.kind)))) return true;
  return [code, ...causes.map((known) => known?.originalCode)].some(
    (known) => typeof known === 'string' && (PRISMA_CODES.includes(known) || CODES.test(known)),
  );
}
