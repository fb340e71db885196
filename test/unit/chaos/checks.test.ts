import { describe, expect, it } from 'vitest';
import { type Amounts, NOTHING, times, withCost } from '../../../chaos/amounts.js';
import type { Reservation } from '../../../chaos/books.js';
import {
  booksAgree,
  type JobFigures,
  jobsAddUp,
  paidTwice,
  paidTwiceWithinBounds,
  reachedItsEnd,
  sameAdapter,
  takeovers,
  withinLimits,
} from '../../../chaos/checks.js';

const CALL = withCost({ prompt_evaluations: 2, image_queries: 32, requests: 1 });
const PLAN = times(CALL, 2);

function call(changes: Partial<Reservation>): Reservation {
  return {
    jobId: 'job',
    purpose: 'candidates',
    state: 'settled',
    generation: 1,
    chunk: 0,
    epoch: 1,
    worker: 'w',
    amounts: CALL,
    createdAt: 1000,
    closedAt: 1100,
    ...changes,
  };
}

/** A job of two calls in which all is well. */
function job(changes: Partial<JobFigures> = {}): JobFigures {
  return {
    id: 'job',
    record: {
      status: 'succeeded',
      generation: 2,
      plannedGenerations: 2,
      stopReason: null,
      error: null,
      adapters: ['ft:adapter'],
      toldGenerations: [1, 2],
      claimedAt: [900],
      successes: 1,
    },
    account: { limit: times(CALL, 4), used: PLAN, reserved: NOTHING },
    reservations: [call({ generation: 1 }), call({ generation: 2, createdAt: 2000, closedAt: 2100 })],
    served: PLAN,
    plan: PLAN,
    raises: 0,
    adapterDigest: 'a',
    undisturbedDigest: 'a',
    ...changes,
  };
}

/** The job with one call more, whose outcome nobody knows. */
function withUnknown(served: Amounts): JobFigures {
  const reservations = [...job().reservations, call({ state: 'unknown', createdAt: 1500, closedAt: 3000 })];
  return job({ reservations, served, account: { ...job().account, used: times(CALL, 3) } });
}

const SPOILT_RECORDS = [
  { status: 'running' },
  { stopReason: 'budget_exhausted' },
  { generation: 1 },
  { adapters: [] },
  { adapters: ['ft:one', 'ft:two'] },
  { toldGenerations: [1, 2, 2] },
  { toldGenerations: [2] },
  { successes: 0 },
  { successes: 2 },
];

describe('the checks of a round', () => {
  it('find nothing where all is well', () => {
    const figures = job();
    expect(withinLimits(figures.id, figures.served, figures.account)).toEqual([]);
    expect(booksAgree(figures)).toEqual([]);
    expect(reachedItsEnd(figures)).toEqual([]);
    expect(sameAdapter(figures)).toEqual([]);
    expect(jobsAddUp(3, 3)).toEqual([]);
    expect(paidTwiceWithinBounds(paidTwice([figures], [], 0, false))).toEqual([]);
  });

  it.each(['prompt_evaluations', 'image_queries', 'requests', 'cost_micro_usd'] as const)(
    'find a limit on %s that was passed by the provider or by the ledger',
    (unit) => {
      const { id, served, account } = job();
      const more = (amounts: Amounts) => ({ ...amounts, [unit]: account.limit[unit] + 1 });
      expect(withinLimits(id, more(served), account)[0]).toMatch(unit);
      expect(withinLimits(id, served, { ...account, used: more(NOTHING) })[0]).toMatch(unit);
      expect(withinLimits(id, served, { ...account, reserved: account.limit })[0]).toMatch(/limit/);
    },
  );

  it('find a call that was sent without a reservation', () => {
    const { id, account } = job();
    expect(withinLimits(id, times(CALL, 3), account).join()).toMatch(/reserved were/);
  });

  it('find books that do not add up', () => {
    expect(booksAgree(job({ account: { ...job().account, used: CALL } })).join()).toMatch(/add up/);
    expect(booksAgree(job({ account: { ...job().account, reserved: CALL } })).join()).toMatch(/still reserved/);
    expect(booksAgree(job({ served: times(CALL, 3) })).join()).toMatch(/served/);
    expect(booksAgree(job({ served: CALL })).join()).toMatch(/served/);
  });

  it('let an unknown call have been served or not', () => {
    expect(booksAgree(withUnknown(PLAN))).toEqual([]);
    expect(booksAgree(withUnknown(times(CALL, 3)))).toEqual([]);
    expect(booksAgree(withUnknown(times(CALL, 4)))).not.toEqual([]);
  });

  it.each(SPOILT_RECORDS)('find a job that has not reached its end once: %j', (spoilt) => {
    expect(reachedItsEnd(job({ record: { ...job().record, ...spoilt } }))).toHaveLength(1);
  });

  it('expect one success more for each time that a budget was raised', () => {
    const adapters = ['ft:one', 'ft:two'];
    expect(reachedItsEnd(job({ raises: 1, record: { ...job().record, successes: 2, adapters } }))).toEqual([]);
    expect(reachedItsEnd(job({ raises: 1 }))).toHaveLength(1);
  });

  it('find jobs that were lost or created twice', () => {
    expect(jobsAddUp(2, 3)).toHaveLength(1);
    expect(jobsAddUp(4, 3)).toHaveLength(1);
  });

  it('find an adapter that differs or is missing', () => {
    expect(sameAdapter(job({ adapterDigest: 'b' }))).toHaveLength(1);
    expect(sameAdapter(job({ adapterDigest: null }))).toHaveLength(1);
  });
});

describe('image queries that were paid twice', () => {
  const figures = withUnknown(times(CALL, 3));

  it('may be those of a call that an interruption met in flight', () => {
    const during = { from: 1600, to: 1610 };
    expect(paidTwice([figures], [during], 0, false)).toEqual({ paidTwice: 32, allowed: 32 });
    expect(paidTwice([figures], [{ ...during, jobIds: ['job'] }], 0, false).allowed).toBe(32);
    expect(paidTwice([figures], [{ ...during, jobIds: ['another'] }], 0, false).allowed).toBe(0);
    expect(paidTwice([figures], [{ ...during, workers: ['w'] }], 0, false).allowed).toBe(32);
    expect(paidTwice([figures], [{ ...during, workers: ['another'] }], 0, false).allowed).toBe(0);
    // Two interruptions of one call are one call.
    expect(paidTwice([figures], [during, { from: 1700, to: 1710 }], 0, false).allowed).toBe(32);
    expect(paidTwice([figures], [{ from: 1200, to: 1400 }], 0, false).allowed).toBe(0);
  });

  it('may be those of a call that a former worker had in flight when the next one took over', () => {
    const takenOver = (at: number) => {
      const taken = { ...figures, record: { ...figures.record, claimedAt: [900, at] } };
      return paidTwice([taken], takeovers([taken]), 0, false).allowed;
    };
    // Between its creation at 1500 and its closing at 3000; the next worker's call is its own affair.
    expect(takenOver(2900)).toBe(32);
    expect(takenOver(3100)).toBe(0);
    expect(takeovers([figures])).toEqual([]);
  });

  it('may be those of answers that the provider spoilt', () => {
    expect(paidTwice([figures], [], 64, false).allowed).toBe(64);
  });

  it('may not be where the provider honours idempotency keys', () => {
    const result = paidTwice([figures], [{ from: 1600, to: 1610 }], 64, true);
    expect(result).toEqual({ paidTwice: 32, allowed: 0 });
    expect(paidTwiceWithinBounds(result)).toHaveLength(1);
  });

  it('are not those of probes', () => {
    const amounts = withCost({ prompt_evaluations: 1, image_queries: 1, requests: 1 });
    const probe = (state: Reservation['state']) => call({ purpose: 'probe', state, amounts, generation: null });
    const reservations = [...job().reservations, probe('settled'), probe('unknown'), probe('released')];
    const queriesPaidTwice = (more: number) => {
      const served = { ...PLAN, image_queries: PLAN.image_queries + more };
      return paidTwice([job({ served, reservations })], [{ from: 1000, to: 1100 }], 0, false).paidTwice;
    };
    expect([0, 1, 2, 3, 4].map(queriesPaidTwice)).toEqual([-1, 0, 0, 1, 2]);
  });

  it('cannot be fewer than none', () => {
    expect(paidTwiceWithinBounds(paidTwice([job({ served: CALL })], [], 0, false))).toHaveLength(1);
  });
});
