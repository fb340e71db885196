import { randomUUID } from 'node:crypto';
import { Batcher } from '../batcher.js';
import type { Database, Prisma } from '../db/client.js';
import type { QueryAmounts } from '../providers/provider.js';
import {
  type AccountKind,
  BALANCE_COLUMNS,
  type Balance,
  DEFAULT_PROJECT,
  LimitReachedError,
  limitColumns,
  NO_LIMITS,
  type QueryLimits,
  toBalance,
  UNITS,
} from './accounts.js';
import { closingRow } from './closing-row.js';
import { isImpossible, LedgerConnection } from './connection.js';
import { LateClosings } from './late-closings.js';
import {
  type Closing,
  DeadlinePassedError,
  type Reservation,
  ReservationRefusedError,
  type ReservationRequest,
} from './reservation.js';

/**
 * The query ledger: what each budget allows, what is reserved on it and what was used. It is the only writer of those
 * figures. Every provider call is reserved before it is sent, on all of its accounts (job or adapter, provider, provider's
 * day, project) or on none, and closed after: settled (it was served), released (it is certain that nothing was billed) or
 * left unknown (it may have been billed, so it stays counted).
 *
 * The statements are the procedures `ledger_reserve_durably` and `ledger_close_durably` of the migration; callers at the
 * same time share one, and one whose answer was lost is repeated.
 */

type Tx = Prisma.TransactionClient;

interface ReserveRow {
  ord: number;
  id: number | null;
  outcome: 'reserved' | 'limit_reached' | 'refused' | 'deadline_passed';
  attempt: number | null;
  account: string | null;
  kind: AccountKind | null;
  unit: string | null;
  limit: number | null;
  remaining: number | null;
  needed: number | null;
}

interface CloseItem {
  reservation: Reservation;
  closing: Closing;
}

const LARGEST_BATCH = 512;
/** The part of a provider's window in which a call that is reserved now surely arrives while its key is still known. */
const SURE_OF_WINDOW = 0.9;
const LARGEST_BATCH_BYTES = 32 * 1024 * 1024;

const UNIT_OF: Record<string, keyof QueryAmounts> = {
  prompt_evaluations: 'promptEvaluations',
  image_queries: 'imageQueries',
  requests: 'requests',
  cost_micro_usd: 'costMicroUsd',
};

/**
 * Accounts of queries and what is drawn on them. Calls of one process that come at the same time share a statement; everything that
 * answers is on disk, but for what is said to be settled later.
 */
export class Ledger {
  private readonly connection: LedgerConnection;
  private readonly unawaited: LedgerConnection;
  private readonly reserving = new Batcher<ReservationRequest & { token: string }, ReserveRow>(
    (requests) => this.reserveAll(requests),
    (batch) => batch.length < LARGEST_BATCH,
    isImpossible,
  );
  private readonly closing = new Batcher<CloseItem, boolean>(
    (items) => this.closeAll(items),
    (batch, item) =>
      batch.length < LARGEST_BATCH &&
      [...batch, item].reduce((sum, { closing }) => sum + answerBytes(closing), 0) <= LARGEST_BATCH_BYTES,
    isImpossible,
  );
  private readonly late = new LateClosings<CloseItem>((items) => this.closeLate(items));

  constructor(
    private readonly database: Database,
    connectionString: string,
  ) {
    this.connection = new LedgerConnection(connectionString);
    this.unawaited = new LedgerConnection(connectionString, 'unawaited');
  }

  async close(): Promise<void> {
    await this.late.done();
    await Promise.all([this.connection.close(), this.unawaited.close()]);
  }

  /** Opens the account of a job or adapter, inside the transaction that creates its owner. */
  async openAccount(
    tx: Tx,
    account: { id: string; kind: 'job' | 'adapter'; providerId: string },
    limits: QueryLimits = NO_LIMITS,
  ): Promise<void> {
    await tx.ledgerAccount.create({ data: { ...account, projectId: DEFAULT_PROJECT, ...limitColumns(limits) } });
  }

  /** Opens the accounts of a provider, inside the transaction that creates it. */
  async openProviderAccounts(
    tx: Tx,
    id: string,
    limits: { total: Partial<QueryLimits>; daily: Partial<QueryLimits> },
  ): Promise<void> {
    await tx.ledgerAccount.createMany({
      data: [
        { id, kind: 'provider', providerId: id, projectId: DEFAULT_PROJECT, ...limitColumns(limits.total) },
        { id: dayLimitsId(id), kind: 'provider_day_limits', providerId: id, ...limitColumns(limits.daily) },
      ],
    });
  }

  /** Changes the limits that are named; what was spent stays spent, also where it is more than the new limit. */
  async setLimits(tx: Tx, accountId: string, limits: Partial<QueryLimits>): Promise<void> {
    await tx.ledgerAccount.update({ where: { id: accountId }, data: limitColumns(limits) });
  }

  async changeLimits(accountId: string, limits: Partial<QueryLimits>): Promise<void> {
    await this.database.$transaction((tx) => this.setLimits(tx, accountId, limits));
  }

  /** Changes limits of a provider, those per day for today already. */
  async setProviderLimits(
    tx: Tx,
    providerId: string,
    limits: { total?: Partial<QueryLimits>; daily?: Partial<QueryLimits> },
  ): Promise<void> {
    const { total, daily } = limits;
    // The template first: a call that opens a new day holds it, and is waited for.
    if (daily) await this.setLimits(tx, dayLimitsId(providerId), daily);
    if (total) await this.setLimits(tx, providerId, total);
    if (!daily) return;
    await tx.ledgerAccount.updateMany({
      where: { providerId, kind: 'provider_day', id: { gte: await todaysAccountId(tx, providerId) } },
      data: limitColumns(daily),
    });
  }

  /**
   * Draws the amounts on every account of the call before it is sent.
   * @throws LimitReachedError when a limit would be passed; nothing is drawn
   * @throws ReservationRefusedError, DeadlinePassedError when the guard does not hold; nothing is drawn
   * @throws RangeError when an amount is no whole number of at least 0
   */
  async reserve(request: ReservationRequest): Promise<Reservation> {
    for (const unit of UNITS) {
      const amount = request.amounts[unit];
      if (!Number.isSafeInteger(amount) || amount < 0) throw new RangeError(`${unit}: ${amount} is no amount.`);
    }
    const row = await this.reserving.submit({ ...request, token: randomUUID() });
    const epoch = request.guard.kind === 'running_job' ? request.guard.epoch : null;
    switch (row.outcome) {
      case 'reserved':
        return { id: BigInt(row.id!), epoch, attempt: row.attempt! };
      case 'limit_reached':
        throw new LimitReachedError({
          accountId: row.account!,
          kind: row.kind!,
          unit: UNIT_OF[row.unit!],
          limit: row.limit!,
          remaining: row.remaining!,
          needed: row.needed!,
        });
      case 'deadline_passed':
        throw new DeadlinePassedError(`The deadline of job ${request.accountId} has passed.`);
      default:
        throw new ReservationRefusedError(`${request.accountId} may not draw on its budget (${request.guard.kind}).`);
    }
  }

  /**
   * The call was served: its amounts, or what the provider says it billed, move from reserved to used. An answer that came
   * with it is kept in the same transaction, so that what was paid for is never asked for again.
   * @returns false when the reservation was closed otherwise, or belongs to a later attempt or a newer owner of the job
   */
  async settle(
    reservation: Reservation,
    outcome: Omit<Closing & { state: 'settled' }, 'state'> = {},
  ): Promise<boolean> {
    return this.closing.submit({ reservation, closing: { state: 'settled', ...outcome } });
  }

  /**
   * As {@link settle}, of a call whose caller is not kept waiting. Should this process die first, the reservation is left
   * unknown: it counts in any case. Balances that are read here are those after it.
   */
  settleLater(
    reservation: Reservation,
    outcome: Omit<Closing & { state: 'settled' }, 'state' | 'answer' | 'embeddings'>,
  ) {
    this.late.add({ reservation, closing: { state: 'settled', ...outcome } });
  }

  /** It is certain that the call was not billed: its amounts return to the budget, unless an earlier attempt may have been. */
  async release(reservation: Reservation, reason: string): Promise<boolean> {
    return this.closing.submit({ reservation, closing: { state: 'released', reason } });
  }

  /** The call may have been billed: its amounts count as used. */
  async leaveUnknown(reservation: Reservation, reason: string, texts?: number): Promise<boolean> {
    return this.closing.submit({ reservation, closing: { state: 'unknown', reason, texts } });
  }

  /** Reservations that an earlier owner of a job left open: nobody can know whether they were billed. */
  async leaveUnknownBefore(jobId: string, epoch: number): Promise<number> {
    return this.closeLost('account_id = $1 AND (epoch IS NULL OR epoch < $2::int)', [jobId, epoch]);
  }

  /** All that is open of a job that has ended, whoever left it. */
  async leaveUnknownOf(jobId: string): Promise<number> {
    return this.closeLost('account_id = $1', [jobId]);
  }

  /**
   * Reservations of processes that died without anyone to follow them: older than any call can take. A running job's are
   * its owner's to close, or its next one's.
   */
  async leaveUnknownOlderThan(minutes: number): Promise<number> {
    // By account, because only that is indexed.
    return this.closeLost(
      `attempted_at < now() - make_interval(mins => $1::int) AND account_id IN (
        SELECT id FROM ledger_accounts WHERE requests_reserved > 0 OR image_queries_reserved > 0
          OR prompt_evaluations_reserved > 0 OR cost_micro_usd_reserved > 0
        EXCEPT SELECT id FROM jobs WHERE status = 'running')`,
      [minutes],
    );
  }

  async balance(accountId: string): Promise<Balance> {
    const balance = (await this.balances([accountId])).get(accountId);
    if (!balance) throw new Error(`No ledger account ${accountId}`);
    return balance;
  }

  async balances(accountIds: string[]): Promise<Map<string, Balance>> {
    await this.late.done();
    return this.balancesIn(this.database, accountIds);
  }

  async balancesIn(tx: Tx, accountIds: string[]): Promise<Map<string, Balance>> {
    const rows = await tx.ledgerAccount.findMany({
      where: { id: { in: accountIds } },
      select: { id: true, ...BALANCE_COLUMNS },
    });
    return new Map(rows.map((row) => [row.id, toBalance(row)]));
  }

  /** A provider's budget: in total, and of today. */
  async providerBalances(providerId: string): Promise<{ total: Balance; today: Balance }> {
    return (await this.balancesOfProviders([providerId])).get(providerId)!;
  }

  /** The same of several. */
  async balancesOfProviders(providerIds: string[]): Promise<Map<string, { total: Balance; today: Balance }>> {
    const day = await todayIs(this.database);
    const accountsOf = (id: string) => [id, `${id}@${day}`, dayLimitsId(id)];
    const balances = await this.balances(providerIds.flatMap(accountsOf));
    const of = (id: string): [string, { total: Balance; today: Balance }] => {
      const [total, today, dayLimits] = accountsOf(id).map((account) => balances.get(account));
      const ofToday = today ?? dayLimits;
      if (!total || !ofToday) throw new Error(`No ledger accounts of ${id}`);
      return [id, { total, today: ofToday }];
    };
    return new Map(providerIds.map(of));
  }

  /** Accounts whose figures are not the sums of their reservations. There are none, ever. */
  async discrepancies(): Promise<string[]> {
    const rows = await this.database.$queryRaw<{ id: string }[]>`SELECT id FROM ledger_discrepancies`;
    return rows.map(({ id }) => id);
  }

  private async reserveAll(requests: (ReservationRequest & { token: string })[]): Promise<ReserveRow[]> {
    const [{ outcomes }] = await this.connection.query<{ outcomes: ReserveRow[] }>({
      name: 'ledger_reserve',
      text: 'CALL ledger_reserve_durably($1, NULL)',
      values: [
        JSON.stringify(
          requests.map(({ amounts, guard, purchase, ...request }, ord) => ({
            ord,
            account: request.accountId,
            provider: request.providerId,
            purpose: request.purpose,
            guard: guard.kind,
            epoch: guard.kind === 'running_job' ? guard.epoch : null,
            generation: request.generation ?? null,
            chunk: request.chunk ?? null,
            worker: request.worker,
            api_key: request.apiKeyId ?? null,
            key: purchase?.key ?? request.token,
            // Lets the statement be repeated when the answer to it was lost.
            token: request.token,
            window_seconds: purchase ? Math.floor(sureWindowMs(purchase.windowSeconds) / 1000) : null,
            p: amounts.promptEvaluations,
            i: amounts.imageQueries,
            r: amounts.requests,
            c: amounts.costMicroUsd,
          })),
        ),
      ],
    });
    return outcomes.sort((a, b) => a.ord - b.ord);
  }

  private async closeAll(items: CloseItem[]): Promise<boolean[]> {
    const answers: Buffer[] = [];
    const closings = items.map(({ reservation, closing }, ord) => {
      const { answer, embeddings } = closing.state === 'settled' ? closing : {};
      const kept = answer?.logits ?? embeddings?.values;
      if (kept) answers.push(Buffer.from(kept.buffer, kept.byteOffset, kept.byteLength));
      return closingRow(reservation, closing, ord, kept ? answers.length : null);
    });
    const parameters = answers.map((_, i) => `$${i + 2}`).join(', ');
    const [{ held }] = await this.connection.query<{ held: number[] | null }>({
      // Each number of answers is a statement of its own; beyond a few they are too rare to keep.
      ...(answers.length <= 8 ? { name: `ledger_close_${answers.length}` } : {}),
      text: `CALL ledger_close_durably($1, ARRAY[${parameters}]::bytea[], NULL)`,
      values: [JSON.stringify(closings), ...answers],
    });
    const closed = new Set(held);
    return items.map((_, ord) => closed.has(ord));
  }

  private async closeLate(items: CloseItem[]): Promise<void> {
    await this.unawaited.query({
      name: 'ledger_close_late',
      text: 'SELECT ledger_close($1, ARRAY[]::bytea[])',
      values: [
        JSON.stringify(items.map(({ reservation, closing }, ord) => closingRow(reservation, closing, ord, null))),
      ],
    });
  }

  private async closeLost(which: string, values: unknown[]): Promise<number> {
    const [{ lost }] = await this.connection.query<{ lost: number }>({
      text: `
        SELECT cardinality(ledger_close((
          SELECT coalesce(jsonb_agg(jsonb_build_object('ord', ord, 'id', id, 'attempt', attempt, 'epoch', epoch,
            'state', 'unknown', 'reason', 'process_lost')), '[]')
          FROM (
            SELECT row_number() OVER () AS ord, * FROM ledger_reservations WHERE state = 'reserved' AND ${which}
          ) lost
        ), ARRAY[]::bytea[])) AS lost`,
      values,
    });
    return lost;
  }
}

/** How long a purchase counts as the same one, for a provider that knows keys for so many seconds. */
export function sureWindowMs(windowSeconds: number): number {
  return windowSeconds * 1000 * SURE_OF_WINDOW;
}

function dayLimitsId(providerId: string): string {
  return `${providerId}@day`;
}

/** By the clock of Postgres, as reservations go. */
async function todaysAccountId(tx: Tx, providerId: string): Promise<string> {
  return `${providerId}@${await todayIs(tx)}`;
}

async function todayIs(tx: Tx): Promise<string> {
  const [{ today }] = await tx.$queryRaw<{ today: string }[]>`
    SELECT to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD') AS today`;
  return today;
}

function answerBytes(closing: Closing): number {
  if (closing.state !== 'settled') return 0;
  return closing.answer?.logits.byteLength ?? closing.embeddings?.values.byteLength ?? 0;
}
