import { type Database, Prisma } from '../db/client.js';
import { BudgetExceededError } from '../errors.js';
import type { QueryAmounts } from '../providers/provider.js';

/**
 * The query ledger: what each budget allows, what is reserved on it and what was used. It is the only writer of those
 * figures. Every provider call is reserved before it is sent and closed after: settled (it was served), released (it is
 * certain that nothing was billed) or left unknown (it may have been billed, so it stays counted).
 */

export type QueryPurpose = 'candidates' | 'centre' | 'validation' | 'predict' | 'zero_shot';

/** Limits of an account; null is no limit. */
export type QueryLimits = { [Unit in keyof QueryAmounts]: number | null };

/** Who may draw: the account's owner must be in this state when the reservation is made. */
export type ReservationGuard =
  | { kind: 'running_job'; jobId: string; epoch: number }
  | { kind: 'live_adapter'; adapterId: string }
  | { kind: 'live_provider' };

export interface ReservationRequest {
  accountId: string;
  providerId: string;
  purpose: QueryPurpose;
  amounts: QueryAmounts;
  guard: ReservationGuard;
  generation?: number;
  /** Position of the call in its generation's plan. */
  chunk?: number;
  attempt: number;
  worker: string;
}

/** What the provider answered to a job's call, with a hash of everything that was asked. */
export interface PaidAnswer {
  callHash: Uint8Array<ArrayBuffer>;
  /** little-endian float32 */
  logits: Uint8Array<ArrayBuffer>;
}

export interface UnitBalance {
  limit: number | null;
  used: number;
  reserved: number;
  /** null where there is no limit */
  remaining: number | null;
}

export type Balance = { [Unit in keyof QueryAmounts]: UnitBalance };

/** The account's owner is no longer in the state that its guard demands: cancelled, deleted, or owned by a newer worker. */
export class ReservationRefusedError extends Error {
  override readonly name = 'ReservationRefusedError';
}

/** How often a draw is tried that nothing forbids but that met other calls on their way. */
const LOOKS = 20;

type Tx = Prisma.TransactionClient;

interface AccountRow {
  id: string;
  promptEvaluationsLimit: bigint | null;
  promptEvaluationsUsed: bigint;
  promptEvaluationsReserved: bigint;
  imageQueriesLimit: bigint | null;
  imageQueriesUsed: bigint;
  imageQueriesReserved: bigint;
  requestsLimit: bigint | null;
  requestsUsed: bigint;
  requestsReserved: bigint;
  costMicroUsdLimit: bigint | null;
  costMicroUsdUsed: bigint;
  costMicroUsdReserved: bigint;
}

export const NO_LIMITS: QueryLimits = {
  promptEvaluations: null,
  imageQueries: null,
  requests: null,
  costMicroUsd: null,
};

export class Ledger {
  constructor(private readonly database: Database) {}

  /** Opens the account of a job, adapter or provider, inside the transaction that creates its owner. */
  async openAccount(tx: Tx, id: string, providerId: string, limits: QueryLimits = NO_LIMITS): Promise<void> {
    await tx.ledgerAccount.create({
      data: {
        id,
        providerId,
        promptEvaluationsLimit: limits.promptEvaluations,
        imageQueriesLimit: limits.imageQueries,
        requestsLimit: limits.requests,
        costMicroUsdLimit: limits.costMicroUsd,
      },
    });
  }

  /**
   * Draws the amounts on the account before a call is sent: one conditional UPDATE and the reservation's row, in one
   * statement, so that no interleaving of callers can pass a limit.
   * @returns the reservation's id
   * @throws BudgetExceededError when a limit would be passed; nothing is drawn
   * @throws ReservationRefusedError when the guard does not hold; nothing is drawn
   */
  async reserve(request: ReservationRequest): Promise<bigint> {
    for (let look = 0; look < LOOKS; look++) {
      const id = await this.tryReserve(request);
      if (id !== null) return id;
      const refusal = await this.refusal(request);
      if (refusal) throw refusal;
      // Another call gave its amounts back between the two statements.
    }
    throw new Error(`No reservation on ${request.accountId} in ${LOOKS} attempts, though nothing forbids it.`);
  }

  private async tryReserve(request: ReservationRequest): Promise<bigint | null> {
    const { promptEvaluations, imageQueries, requests, costMicroUsd } = request.amounts;
    const epoch = request.guard.kind === 'running_job' ? request.guard.epoch : null;
    const rows = await this.database.$queryRaw<{ id: bigint }[]>`
      WITH drawn AS (
        UPDATE ledger_accounts SET
          prompt_evaluations_reserved = prompt_evaluations_reserved + ${promptEvaluations}::bigint,
          image_queries_reserved = image_queries_reserved + ${imageQueries}::bigint,
          requests_reserved = requests_reserved + ${requests}::bigint,
          cost_micro_usd_reserved = cost_micro_usd_reserved + ${costMicroUsd}::bigint
        WHERE id = ${request.accountId}
          AND (prompt_evaluations_limit IS NULL OR prompt_evaluations_used + prompt_evaluations_reserved + ${promptEvaluations}::bigint <= prompt_evaluations_limit)
          AND (image_queries_limit IS NULL OR image_queries_used + image_queries_reserved + ${imageQueries}::bigint <= image_queries_limit)
          AND (requests_limit IS NULL OR requests_used + requests_reserved + ${requests}::bigint <= requests_limit)
          AND (cost_micro_usd_limit IS NULL OR cost_micro_usd_used + cost_micro_usd_reserved + ${costMicroUsd}::bigint <= cost_micro_usd_limit)
          AND ${guardCondition(request.guard, request.providerId)}
        RETURNING id
      )
      INSERT INTO ledger_reservations
        (account_id, provider_id, purpose, state, generation, chunk, attempt, epoch, worker,
         prompt_evaluations, image_queries, requests, cost_micro_usd)
      SELECT id, ${request.providerId}, ${request.purpose}, 'reserved', ${request.generation ?? null}::int,
        ${request.chunk ?? null}::int, ${request.attempt}::int, ${epoch}::int, ${request.worker},
        ${promptEvaluations}::bigint, ${imageQueries}::bigint, ${requests}::bigint, ${costMicroUsd}::bigint
      FROM drawn
      RETURNING id`;
    return rows[0]?.id ?? null;
  }

  /**
   * The call was served: its amounts move from reserved to used. An answer that came with it is kept in the same
   * statement, so that what was paid for is never asked for again.
   */
  async settle(reservationId: bigint, answer?: PaidAnswer): Promise<void> {
    await this.close(reservationId, 'settled', null, answer);
  }

  /** It is certain that the call was not billed: its amounts return to the budget. */
  async release(reservationId: bigint, reason: string): Promise<void> {
    await this.close(reservationId, 'released', reason);
  }

  /** The call may have been billed: its amounts count as used. */
  async leaveUnknown(reservationId: bigint, reason: string): Promise<void> {
    await this.close(reservationId, 'unknown', reason);
  }

  /** Reservations that an earlier owner of a job left open: nobody can know whether they were billed. */
  async leaveUnknownBefore(jobId: string, epoch: number): Promise<number> {
    return this.closeLost(Prisma.sql`account_id = ${jobId} AND epoch < ${epoch}::int`);
  }

  /** All that is open of a job that has ended, whoever left it. */
  async leaveUnknownOf(jobId: string): Promise<number> {
    return this.closeLost(Prisma.sql`account_id = ${jobId}`);
  }

  /** Reservations of processes that died without anyone to follow them: older than any call can take. */
  async leaveUnknownOlderThan(minutes: number): Promise<number> {
    return this.closeLost(Prisma.sql`created_at < now() - make_interval(mins => ${minutes}::int)`);
  }

  private async closeLost(which: Prisma.Sql): Promise<number> {
    const rows = await this.database.$queryRaw<{ closed: bigint }[]>`
      WITH closed AS (
        UPDATE ledger_reservations SET state = 'unknown', closed_at = now(), reason = 'process_lost'
        WHERE state = 'reserved' AND ${which}
        RETURNING account_id, prompt_evaluations, image_queries, requests, cost_micro_usd
      ), sums AS (
        SELECT account_id, count(*) AS calls, sum(prompt_evaluations)::bigint AS p, sum(image_queries)::bigint AS i,
          sum(requests)::bigint AS r, sum(cost_micro_usd)::bigint AS c
        FROM closed GROUP BY account_id
      )
      UPDATE ledger_accounts a SET
        prompt_evaluations_reserved = prompt_evaluations_reserved - s.p,
        prompt_evaluations_used = prompt_evaluations_used + s.p,
        image_queries_reserved = image_queries_reserved - s.i,
        image_queries_used = image_queries_used + s.i,
        requests_reserved = requests_reserved - s.r,
        requests_used = requests_used + s.r,
        cost_micro_usd_reserved = cost_micro_usd_reserved - s.c,
        cost_micro_usd_used = cost_micro_usd_used + s.c
      FROM sums s WHERE a.id = s.account_id
      RETURNING s.calls AS closed`;
    return rows.reduce((sum, { closed }) => sum + Number(closed), 0);
  }

  async balance(accountId: string): Promise<Balance> {
    const balances = await this.balances([accountId]);
    const balance = balances.get(accountId);
    if (!balance) throw new Error(`No ledger account ${accountId}`);
    return balance;
  }

  async balances(accountIds: string[]): Promise<Map<string, Balance>> {
    const rows = await this.database.ledgerAccount.findMany({ where: { id: { in: accountIds } } });
    return new Map(rows.map((row) => [row.id, toBalance(row)]));
  }

  /** What was used at a provider by all accounts together. */
  async usedAtProvider(providerId: string): Promise<QueryAmounts> {
    const { _sum: sum } = await this.database.ledgerAccount.aggregate({
      where: { providerId },
      _sum: { promptEvaluationsUsed: true, imageQueriesUsed: true, requestsUsed: true, costMicroUsdUsed: true },
    });
    return {
      promptEvaluations: Number(sum.promptEvaluationsUsed ?? 0n),
      imageQueries: Number(sum.imageQueriesUsed ?? 0n),
      requests: Number(sum.requestsUsed ?? 0n),
      costMicroUsd: Number(sum.costMicroUsdUsed ?? 0n),
    };
  }

  /** Closing a reservation twice, or one that an owner's successor closed, changes nothing. */
  private async close(
    id: bigint,
    state: 'settled' | 'released' | 'unknown',
    reason: string | null,
    answer?: PaidAnswer,
  ): Promise<void> {
    const counted = state === 'released' ? 0 : 1;
    const kept = answer
      ? Prisma.sql`, kept AS (
        INSERT INTO stored_answers (job_id, generation, chunk, call_hash, logits)
        SELECT account_id, closed.generation, chunk, ${answer.callHash}, ${answer.logits}
        FROM closed JOIN jobs ON jobs.id = account_id AND jobs.status = 'running'
        ON CONFLICT (job_id, generation, chunk) DO UPDATE SET call_hash = excluded.call_hash, logits = excluded.logits
      )`
      : Prisma.empty;
    await this.database.$executeRaw`
      WITH closed AS (
        UPDATE ledger_reservations SET state = ${state}, closed_at = now(), reason = ${reason}
        WHERE id = ${id} AND state = 'reserved'
        RETURNING account_id, generation, chunk, prompt_evaluations AS p, image_queries AS i, requests AS r,
          cost_micro_usd AS c
      )${kept}
      UPDATE ledger_accounts a SET
        prompt_evaluations_reserved = prompt_evaluations_reserved - s.p,
        prompt_evaluations_used = prompt_evaluations_used + ${counted}::bigint * s.p,
        image_queries_reserved = image_queries_reserved - s.i,
        image_queries_used = image_queries_used + ${counted}::bigint * s.i,
        requests_reserved = requests_reserved - s.r,
        requests_used = requests_used + ${counted}::bigint * s.r,
        cost_micro_usd_reserved = cost_micro_usd_reserved - s.c,
        cost_micro_usd_used = cost_micro_usd_used + ${counted}::bigint * s.c
      FROM closed s WHERE a.id = s.account_id`;
  }

  /** Why nothing could be drawn; null when by now it could. */
  private async refusal(request: ReservationRequest): Promise<Error | null> {
    const [{ holds }] = await this.database.$queryRaw<{ holds: boolean }[]>`
      SELECT ${guardCondition(request.guard, request.providerId)} AS holds`;
    if (!holds) {
      return new ReservationRefusedError(`${request.accountId} may not draw on its budget (${request.guard.kind})`);
    }
    return shortfall(request.amounts, await this.balance(request.accountId));
  }
}

/** The error that says which limit does not cover the amounts; null when all do. */
export function shortfall(amounts: QueryAmounts, balance: Balance): BudgetExceededError | null {
  for (const unit of Object.keys(amounts) as (keyof QueryAmounts)[]) {
    const { limit, remaining } = balance[unit];
    if (remaining === null || amounts[unit] <= remaining) continue;
    return new BudgetExceededError({
      code: 'budget_exhausted',
      param: BUDGET_PARAMETERS[unit],
      message: `The next step needs ${amounts[unit]} ${UNIT_NAMES[unit]}, but only ${remaining} of ${limit} remain. Nothing was sent. Raise ${BUDGET_PARAMETERS[unit]}.`,
    });
  }
  return null;
}

const UNIT_NAMES: Record<keyof QueryAmounts, string> = {
  promptEvaluations: 'prompt evaluations',
  imageQueries: 'image queries',
  requests: 'requests',
  costMicroUsd: 'micro-dollars',
};

export const BUDGET_PARAMETERS: Record<keyof QueryAmounts, string> = {
  promptEvaluations: 'max_prompt_evaluations',
  imageQueries: 'max_image_queries',
  requests: 'max_requests',
  costMicroUsd: 'max_cost_usd',
};

function guardCondition(guard: ReservationGuard, providerId: string): Prisma.Sql {
  switch (guard.kind) {
    case 'running_job':
      return Prisma.sql`EXISTS (SELECT 1 FROM jobs WHERE id = ${guard.jobId} AND status = 'running' AND epoch = ${guard.epoch}::int)`;
    case 'live_adapter':
      return Prisma.sql`EXISTS (
        SELECT 1 FROM adapters a JOIN providers p ON p.id = a.provider_id
        WHERE a.id = ${guard.adapterId} AND a.deleted_at IS NULL AND p.deleted_at IS NULL)`;
    case 'live_provider':
      return Prisma.sql`EXISTS (SELECT 1 FROM providers WHERE id = ${providerId} AND deleted_at IS NULL)`;
  }
}

function toBalance(row: AccountRow): Balance {
  const unit = (limit: bigint | null, used: bigint, reserved: bigint): UnitBalance => ({
    limit: limit === null ? null : Number(limit),
    used: Number(used),
    reserved: Number(reserved),
    remaining: limit === null ? null : Number(limit - used - reserved),
  });
  return {
    promptEvaluations: unit(row.promptEvaluationsLimit, row.promptEvaluationsUsed, row.promptEvaluationsReserved),
    imageQueries: unit(row.imageQueriesLimit, row.imageQueriesUsed, row.imageQueriesReserved),
    requests: unit(row.requestsLimit, row.requestsUsed, row.requestsReserved),
    costMicroUsd: unit(row.costMicroUsdLimit, row.costMicroUsdUsed, row.costMicroUsdReserved),
  };
}
