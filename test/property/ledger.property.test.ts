import fc from 'fast-check';
import { beforeAll, describe, expect, it } from 'vitest';
import { newId } from '../../src/ids.js';
import { DEFAULT_PROJECT, LimitReachedError, NO_LIMITS, type QueryLimits } from '../../src/ledger/accounts.js';
import { Ledger } from '../../src/ledger/ledger.js';
import {
  type Closing,
  type Reservation,
  ReservationRefusedError,
  type ReservationRequest,
} from '../../src/ledger/reservation.js';
import type { QueryAmounts } from '../../src/providers/provider.js';
import {
  type Draw,
  LedgerModel,
  type ModelAccount,
  type ModelJob,
  type ModelTotals,
  UNITS,
  type Unit,
} from '../helpers/ledger-model.js';
import { plus, readAccounts, readTotals } from '../helpers/ledger-readings.js';
import { createProvider, createRunningJob, today } from '../helpers/ledger-records.js';
import { type TestDatabase, testDatabase } from '../helpers/postgres.js';

/**
 * The ledger on Postgres against a plain model of it. Commands come in rounds, those of a round at the same time and from
 * two processes. Where a round is one command, the model says what must be answered; where it is several, their order is
 * not known, and it is told the answers: whatever they are, balances must be what follows from them.
 */

let db: TestDatabase;
/** One per worker. */
let ledgers: Ledger[];

beforeAll(async () => {
  db = await testDatabase();
  ledgers = [0, 1].map(() => new Ledger(db.database, db.connectionString));
  return async () => {
    for (const ledger of ledgers) await ledger.close();
  };
});

type How = Closing['state'];
type Command =
  | { kind: 'reserve'; job: number; worker: number; key: number | null; amounts: QueryAmounts; probe: boolean }
  | { kind: 'close'; handle: number; worker: number; how: How; billed: number[] | null; again: How | null }
  | { kind: 'take over'; job: number; worker: number }
  | { kind: 'pause' | 'cancel'; job: number }
  | { kind: 'limit'; account: number; unit: Unit; headroom: number | null };

const small = fc.integer({ min: 0, max: 6 });
const amount = fc.oneof(
  { arbitrary: small, weight: 60 },
  { arbitrary: fc.integer({ min: 2 ** 53 - 4, max: 2 ** 53 - 1 }), weight: 1 },
);
const index = fc.nat({ max: 11 });
const worker = fc.nat({ max: 1 });
const how = fc.constantFrom<How>('settled', 'released', 'unknown');

const reserve: fc.Arbitrary<Command> = fc.record({
  kind: fc.constant('reserve'),
  job: index,
  worker,
  key: fc.option(fc.nat({ max: 3 }), { nil: null }),
  amounts: fc.record({ promptEvaluations: amount, imageQueries: amount, requests: amount, costMicroUsd: amount }),
  probe: fc.boolean(),
});
const close: fc.Arbitrary<Command> = fc.record({
  kind: fc.constant('close'),
  // Mostly one of the last.
  handle: fc.oneof(fc.nat({ max: 7 }), fc.nat({ max: 60 })),
  worker,
  how,
  billed: fc.option(fc.tuple(small, small, small), { nil: null }),
  again: fc.option(how, { freq: 4, nil: null }),
});
const takeOver: fc.Arbitrary<Command> = fc.record({ kind: fc.constant('take over'), job: index, worker });
const stop: fc.Arbitrary<Command> = fc.record({ kind: fc.constantFrom('pause', 'cancel'), job: index });
const limit: fc.Arbitrary<Command> = fc.record({
  kind: fc.constant('limit'),
  account: fc.nat(),
  unit: fc.constantFrom(...UNITS),
  headroom: fc.option(fc.integer({ min: -10, max: 30 }), { freq: 3, nil: null }),
});
const command = fc.oneof(
  { arbitrary: reserve, weight: 12 },
  { arbitrary: close, weight: 9 },
  { arbitrary: takeOver, weight: 2 },
  { arbitrary: stop, weight: 1 },
  { arbitrary: limit, weight: 2 },
);
const rounds = fc.array(
  fc.oneof(
    { arbitrary: fc.array(command, { minLength: 1, maxLength: 1 }), weight: 2 },
    { arbitrary: fc.array(command, { minLength: 2, maxLength: 12 }), weight: 1 },
  ),
  { minLength: 1, maxLength: 40, size: 'max' },
);

interface Handle {
  reservation: Reservation;
  job: ModelJob;
}

/** A command that may run beside the others of its round, and what to do with its answer. */
interface Step {
  run(): Promise<unknown>;
  /** @param alone whether it was the only command of its round */
  check(answer: unknown, alone: boolean): void;
}

/** What a round has touched, so that no two of its commands depend on each other's order. */
interface Round {
  readonly touched: Set<string>;
  readonly disturbed: Set<ModelJob>;
  readonly relimited: Set<ModelAccount>;
  /** At least what was billed beyond what was reserved: as much may pass a limit. */
  billedMore: bigint;
  /** Run after all answers are in. */
  readonly after: (() => void)[];
}

/** Two providers with two jobs each, and what two workers do with them. */
class World {
  private readonly model = new LedgerModel();
  private readonly handles: Handle[] = [];
  private readonly jobs: ModelJob[] = [];
  private readonly accounts: ModelAccount[] = [];
  /** The project is that of earlier worlds, too. */
  private projectTotals: ModelTotals | undefined;
  /** As which owner each worker acts, right or not. */
  private readonly epochs = [new Map<string, number>(), new Map<string, number>()];

  static async create(): Promise<World> {
    const world = new World();
    await ledgers[0].changeLimits(DEFAULT_PROJECT, NO_LIMITS);
    const project = world.open(DEFAULT_PROJECT, 'project');
    const [before] = await readAccounts(db.database, [DEFAULT_PROJECT]);
    Object.assign(project, { used: before.used, reserved: before.reserved });
    world.projectTotals = (await readTotals(db.database, [DEFAULT_PROJECT])).get(DEFAULT_PROJECT)!;
    for (let p = 0; p < 2; p++) {
      const providerId = newId('prov-');
      await createProvider(db.database, ledgers[0], providerId);
      const provider = world.open(providerId, 'provider');
      const day = world.open(`${providerId}@${today()}`, 'provider_day');
      for (let j = 0; j < 2; j++) {
        const id = await createRunningJob(db.database, ledgers[0], providerId);
        world.jobs.push({ id, status: 'running', epoch: 1, accounts: [world.open(id, 'job'), provider, day, project] });
        for (const epochs of world.epochs) epochs.set(id, 1);
      }
    }
    return world;
  }

  private open(id: string, kind: string): ModelAccount {
    const account = this.model.account(id, kind);
    this.accounts.push(account);
    return account;
  }

  async round(commands: Command[]): Promise<void> {
    const round: Round = {
      ...{ touched: new Set(), disturbed: new Set(), relimited: new Set() },
      ...{ billedMore: 0n, after: [] },
    };
    const steps = commands.flatMap((command) => this.step(command, round) ?? []);
    const before = new Map(this.accounts.map((account) => [account, totals(account)]));
    const answers = await Promise.all(steps.map((step) => step.run().catch((error: unknown) => error)));
    for (const [i, step] of steps.entries()) step.check(answers[i], steps.length === 1);
    for (const then of round.after) then();
    await this.compare();
    for (const account of this.accounts) {
      if (!round.relimited.has(account)) expectNoOverdraft(account, before.get(account)!, round.billedMore);
    }
  }

  /** Whether all accounts and rows are as the model says. */
  async end(): Promise<void> {
    await this.compare();
    const rows = await db.database.reservation.findMany({
      where: { accountId: { in: this.jobs.map(({ id }) => id) } },
      select: { id: true, state: true, attempt: true, epoch: true, doubtful: true, accounts: true },
    });
    const byId = (a: { id: bigint }, b: { id: bigint }) => Number(a.id - b.id);
    expect(rows.sort(byId)).toEqual(
      [...this.model.rows].sort(byId).map(({ id, state, attempt, epoch, doubtful, accounts }) => {
        return { id, state, attempt, epoch, doubtful, accounts: accounts.map((account) => account.id) };
      }),
    );
    expect(await ledgers[0].discrepancies()).toEqual([]);
  }

  private step(command: Command, round: Round): Step | null {
    switch (command.kind) {
      case 'reserve':
        return this.reserve(command, round);
      case 'close':
        return this.close(command, round);
      case 'limit':
        return this.limit(command, round);
      default:
        return this.disturb(command, round);
    }
  }

  private reserve(command: Command & { kind: 'reserve' }, round: Round): Step | null {
    const job = this.jobs[command.job % this.jobs.length];
    const key = command.key === null ? null : `${job.id}/${command.key}`;
    const probe = command.probe && job.status === 'paused';
    const epoch = probe ? null : this.epochs[command.worker].get(job.id)!;
    const draw: Draw = { job, amounts: command.amounts, epoch, key };
    const known = this.model.known(key);
    if (key !== null && !touch(round, known?.id ?? key)) return null;
    const expected = this.model.expectedAnswer(draw);
    const request: ReservationRequest = {
      accountId: job.id,
      providerId: job.accounts[1].id,
      purpose: 'candidates',
      amounts: command.amounts,
      guard: epoch === null ? { kind: 'paused_job' } : { kind: 'running_job', epoch },
      worker: `worker ${command.worker}`,
      purchase: key === null ? undefined : { key, windowSeconds: 3600 },
    };
    return {
      run: () => ledgers[command.worker].reserve(request),
      check: (answer, alone) => {
        if (answer instanceof ReservationRefusedError) {
          if (!round.disturbed.has(job)) expect(expected).toBe('refused');
        } else if (answer instanceof LimitReachedError) {
          const { accountId, unit, needed, limit, remaining } = answer.shortage;
          const account = job.accounts.find(({ id }) => id === accountId)!;
          expect(needed).toBe(command.amounts[unit]);
          expect(remaining).toBeLessThan(needed);
          // With others at the same time it is enough that there was a limit; that all adds up is checked after.
          if (!round.relimited.has(account)) expect(account.limits[unit]).toBe(BigInt(limit));
          if (alone) expect({ account, unit }).toEqual(expected);
        } else {
          if (answer instanceof Error) throw answer;
          if (alone) expect(expected).toBe('reserved');
          const reservation = answer as Reservation;
          expect(reservation).toEqual({
            id: known?.id ?? expect.any(BigInt),
            epoch,
            attempt: (known?.attempt ?? 0) + 1,
          });
          this.model.reserved(draw, reservation);
          this.handles.push({ reservation, job });
        }
      },
    };
  }

  private close({ handle, worker, how, billed, again }: Command & { kind: 'close' }, round: Round): Step | null {
    if (this.handles.length === 0) return null;
    const { reservation, job } = this.handles[this.handles.length - 1 - (handle % this.handles.length)];
    if (!touch(round, reservation.id)) return null;
    const closings = [how, ...(again === null ? [] : [again])].map((state): Closing => {
      if (state !== 'settled') return { state, reason: 'test' };
      const [imageQueries, requests, costMicroUsd] = billed ?? [];
      return { state, billed: billed === null ? null : { imageQueries, requests, costMicroUsd } };
    });
    return {
      run: () => Promise.all(closings.map((closing) => closeBy(ledgers[worker], reservation, closing))),
      check: (answers) => {
        if (answers instanceof Error) throw answers;
        for (const [i, closing] of closings.entries()) {
          const closed = (answers as boolean[])[i];
          const open = this.model.isOpen(reservation);
          // Whether it or the takeover came first is not known; the answer tells.
          if (!round.disturbed.has(job)) expect(closed).toBe(open || this.model.isMade(reservation, closing));
          if (!closed || !open) continue;
          this.model.closed(reservation, closing);
          if (closing.state === 'settled' && closing.billed)
            round.billedMore += sum(this.model.rowOf(reservation.id).amounts);
        }
      },
    };
  }

  private disturb(command: Command & { kind: 'take over' | 'pause' | 'cancel' }, round: Round): Step | null {
    const job = this.jobs[command.job % this.jobs.length];
    if (job.status === 'cancelled' || round.disturbed.has(job)) return null;
    if (command.kind === 'pause' && job.status === 'paused') return null;
    round.disturbed.add(job);
    const check = (answer: unknown) => {
      if (answer instanceof Error) throw answer;
    };
    if (command.kind === 'take over') {
      const epoch = job.epoch + 1;
      round.after.push(() => {
        Object.assign(job, { epoch, status: 'running' });
        this.epochs[command.worker].set(job.id, epoch);
        this.model.takenOver(job.id, epoch);
      });
      return {
        run: async () => {
          await db.database.job.update({
            where: { id: job.id },
            data: { epoch, status: 'running', pauseReason: null },
          });
          await ledgers[command.worker].leaveUnknownBefore(job.id, epoch);
        },
        check,
      };
    }
    const status = command.kind === 'pause' ? 'paused' : 'cancelled';
    round.after.push(() => Object.assign(job, { status }));
    const pauseReason = status === 'paused' ? 'user' : null;
    return { run: () => db.database.job.update({ where: { id: job.id }, data: { status, pauseReason } }), check };
  }

  private limit({ account: pick, unit, headroom }: Command & { kind: 'limit' }, round: Round): Step | null {
    const account = this.accounts[pick % this.accounts.length];
    if (round.relimited.has(account)) return null;
    round.relimited.add(account);
    const taken = totals(account)[unit];
    const value = headroom === null ? null : Math.min(Number.MAX_SAFE_INTEGER, Math.max(0, Number(taken) + headroom));
    round.after.push(() => {
      account.limits[unit] = value === null ? null : BigInt(value);
    });
    const limits: Partial<QueryLimits> = { [unit]: value };
    const providerId = account.id.split('@')[0];
    return {
      run: () =>
        account.kind === 'provider_day'
          ? db.database.$transaction((tx) => ledgers[0].setProviderLimits(tx, providerId, { daily: limits }))
          : ledgers[1].changeLimits(account.id, limits),
      check: (answer) => {
        if (answer instanceof Error) throw answer;
      },
    };
  }

  private async compare(): Promise<void> {
    const stored = await readAccounts(
      db.database,
      this.accounts.map(({ id }) => id),
    );
    // The account of a day is opened by its first call.
    const ids = new Set(stored.map(({ id }) => id));
    const untouched = this.accounts.filter(({ id }) => !ids.has(id));
    expect(untouched.filter((account) => account.kind !== 'provider_day' || sum(totals(account)) > 0n)).toEqual([]);
    const byId = (a: { id: string }, b: { id: string }) => (a.id < b.id ? -1 : 1);
    const accounts = this.accounts.filter(({ id }) => ids.has(id)).sort(byId);
    expect(stored.sort(byId)).toEqual(accounts);
    const expected = accounts.map((account): [string, ModelTotals] => {
      const totals = this.model.totals(account);
      return [account.id, account.kind === 'project' ? plus(totals, this.projectTotals!) : totals];
    });
    expect(await readTotals(db.database, [...ids])).toEqual(new Map(expected));
  }
}

/** No draw passed a limit: what is above one was there before, or was billed beyond what was reserved. */
function expectNoOverdraft(account: ModelAccount, before: Record<Unit, bigint>, billedMore: bigint): void {
  const after = totals(account);
  for (const unit of UNITS) {
    const limit = account.limits[unit];
    if (limit === null) continue;
    const allowed = (before[unit] > limit ? before[unit] : limit) + billedMore;
    expect(after[unit] <= allowed, `${account.id}: ${after[unit]} of ${limit} ${unit}`).toBe(true);
  }
}

function touch(round: Round, what: bigint | string): boolean {
  if (round.touched.has(String(what))) return false;
  round.touched.add(String(what));
  return true;
}

function closeBy(ledger: Ledger, reservation: Reservation, closing: Closing): Promise<boolean> {
  if (closing.state === 'settled') return ledger.settle(reservation, { billed: closing.billed });
  if (closing.state === 'released') return ledger.release(reservation, closing.reason);
  return ledger.leaveUnknown(reservation, closing.reason);
}

function totals({ used, reserved }: ModelAccount): Record<Unit, bigint> {
  return Object.fromEntries(UNITS.map((unit) => [unit, used[unit] + reserved[unit]])) as Record<Unit, bigint>;
}

function sum(amounts: Record<Unit, bigint>): bigint {
  return UNITS.reduce((total, unit) => total + amounts[unit], 0n);
}

describe('the ledger on Postgres', () => {
  it('holds what a plain model of it says, whatever is asked at the same time', async () => {
    await fc.assert(
      fc.asyncProperty(rounds, async (commands) => {
        const day = today();
        const world = await World.create();
        for (const round of commands) await world.round(round);
        // At midnight the calls move to another account.
        fc.pre(day === today());
        await world.end();
      }),
      { numRuns: 40 },
    );
  });
});
