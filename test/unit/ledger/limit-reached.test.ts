import { expect, it } from 'vitest';
import { LimitReachedError, type Shortage } from '../../../src/ledger/accounts.js';

it.each<[Pick<Shortage, 'unit' | 'limit' | 'remaining' | 'needed'>, string]>([
  [{ unit: 'imageQueries', limit: 10, remaining: -186, needed: 1 }, 'needs 1 image query, but only 0 of 10 remain'],
  [{ unit: 'imageQueries', limit: 60, remaining: 2, needed: 4 }, 'needs 4 image queries, but only 2 of 60 remain'],
  [{ unit: 'requests', limit: 1, remaining: 0, needed: 1 }, 'needs 1 request, but'],
  [
    { unit: 'costMicroUsd', limit: 300_000, remaining: 500, needed: 4000 },
    'needs 0.004 dollars, but only 0.0005 of 0.3 remain',
  ],
])('a limit that is reached is stated in the unit of its parameter: %j', (shortage, says) => {
  const error = new LimitReachedError({ accountId: 'p', kind: 'provider', ...shortage });
  expect(error.message).toContain(says);
});
