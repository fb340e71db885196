import { beforeAll, beforeEach } from 'vitest';
import { newId } from '../../src/ids.js';
import { Ledger } from '../../src/ledger/ledger.js';
import type { ReservationRequest } from '../../src/ledger/reservation.js';
import type { QueryAmounts } from '../../src/providers/provider.js';
import { createProvider, createRunningJob } from './ledger-records.js';
import { type TestDatabase, testDatabase } from './postgres.js';

export interface LedgerFixture {
  db: TestDatabase;
  ledger: Ledger;
  /** Both are new for every test. The job runs, and its owner has epoch 1. */
  providerId: string;
  jobId: string;
  /** A call of the job. */
  request(call?: Call): ReservationRequest;
}

interface Call {
  /** Names the purchase; without one it is a purchase of its own. */
  key?: string | null;
  /** The owner that asks, 1 if not given. */
  epoch?: number;
  /** Changes to 1 prompt evaluation, no image query, 1 request, 3 micro-dollars. */
  amounts?: Partial<QueryAmounts>;
}

/**
 * A database of the test file's own with a ledger on it, and for each test a provider and a job. Called once, at the top of
 * the file; the fields are there when tests run.
 */
export function ledgerFixture(): LedgerFixture {
  const fixture = {
    request: ({ key = null, epoch = 1, amounts }: Call = {}) => ({
      accountId: fixture.jobId,
      providerId: fixture.providerId,
      purpose: 'candidates',
      amounts: { promptEvaluations: 1, imageQueries: 0, requests: 1, costMicroUsd: 3, ...amounts },
      guard: { kind: 'running_job', epoch },
      worker: 'test',
      purchase: key === null ? undefined : { key: `${fixture.jobId}/${key}`, windowSeconds: 3600 },
    }),
  } as LedgerFixture;
  beforeAll(async () => {
    fixture.db = await testDatabase();
    fixture.ledger = new Ledger(fixture.db.database, fixture.db.connectionString);
    return () => fixture.ledger.close();
  });
  beforeEach(async () => {
    const { db, ledger } = fixture;
    fixture.providerId = newId('prov-');
    await createProvider(db.database, ledger, fixture.providerId);
    fixture.jobId = await createRunningJob(db.database, ledger, fixture.providerId);
  });
  return fixture;
}
