import { setTimeout as sleep } from 'node:timers/promises';
import pg from 'pg';
import { openSession } from '../db/connection-string.js';

/** Longer than Postgres takes to come back after a crash. */
const PATIENCE_MS = 60_000;
const STATEMENT_MS = 20_000;
const FIRST_DELAY_MS = 20;
const LONGEST_DELAY_MS = 1000;

/**
 * The ledger's statements are planned once, for indexes: planning them costs more than running them, and plans for tables
 * that were empty yet would stay.
 */
const PLAN_ONCE =
  '-c plan_cache_mode=force_generic_plan -c enable_seqscan=off -c enable_hashjoin=off -c enable_mergejoin=off';

/**
 * SQLSTATE classes and codes after which the same statement may succeed: connection lost, server stopping, deadlock, and a
 * unique violation: another run of the same statement, believed lost, came first.
 */
const PASSING = /^(08...|57P0[1-5]|40P01|40001|53300|23505)$/;

/**
 * The ledger's own few connections, because its statements are short and many. Each statement is repeated when its
 * connection was lost, so every one must be safe to run twice.
 */
export class LedgerConnection {
  private readonly pool: pg.Pool;

  /** @param commit `unawaited`: statements answer before what they did is on disk */
  constructor(connectionString: string, commit: 'awaited' | 'unawaited' = 'awaited') {
    const commitOption = commit === 'unawaited' ? '-c synchronous_commit=off' : '';
    const session = openSession(connectionString);
    this.pool = new pg.Pool({
      connectionString: session.connectionString,
      options: `${session.options} ${PLAN_ONCE} ${commitOption}`.trim(),
      // One for those who reserve, one for those who settle.
      max: 2,
      application_name: 'craft-ledger',
      connectionTimeoutMillis: 10_000,
      // A connection that is silently gone would be waited for until the system gives it up.
      query_timeout: STATEMENT_MS,
      keepAlive: true,
    });
    // A broken idle connection; the pool makes a new one.
    this.pool.on('error', () => {});
  }

  async query<Row extends pg.QueryResultRow>(statement: pg.QueryConfig): Promise<Row[]> {
    const giveUpAt = performance.now() + PATIENCE_MS;
    for (let delay = FIRST_DELAY_MS; ; delay = Math.min(LONGEST_DELAY_MS, delay * 2)) {
      try {
        return (await this.pool.query<Row>(statement)).rows;
      } catch (error) {
        if (!isPassing(error) || performance.now() > giveUpAt) throw error;
        await sleep(delay);
      }
    }
  }

  async close(): Promise<void> {
    await this.pool.end();
  }
}

function isPassing(error: unknown): boolean {
  if (!(error instanceof Error)) return false;
  const { code } = error as { code?: string };
  if (code !== undefined && PASSING.test(code)) return true;
  return /ECONN|EPIPE|ETIMEDOUT|EHOSTUNREACH/.test(code ?? '') || /connection|timeout/i.test(error.message);
}

/** Whether Postgres refuses the data itself (out of range, against a constraint). */
export function isImpossible(error: unknown): boolean {
  const { code } = error as { code?: unknown };
  return typeof code === 'string' && /^2[23]...$/.test(code);
}
