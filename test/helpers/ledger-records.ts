import type { Database } from '../../src/db/client.js';
import { newId } from '../../src/ids.js';
import type { QueryLimits } from '../../src/ledger/accounts.js';
import type { Ledger } from '../../src/ledger/ledger.js';

/** What the ledger needs to exist: providers and jobs, in their tables only. */

export async function createProvider(
  database: Database,
  ledger: Ledger,
  id: string,
  limits: { total?: Partial<QueryLimits>; daily?: Partial<QueryLimits> } = {},
): Promise<void> {
  await database.provider.create({
    data: {
      id,
      name: id,
      protocol: 'open_inference',
      baseUrl: 'http://127.0.0.1:1',
      remoteModel: 'none',
      settings: {},
      capabilities: {},
      concurrency: 1,
      imagesPerRequest: 1,
      promptsPerRequest: 1,
      timeoutMs: 1000,
      pricePerRequestNanoUsd: 0n,
      pricePerImageQueryNanoUsd: 0n,
    },
  });
  await database.$transaction((tx) => ledger.openProviderAccounts(tx, id, { total: {}, daily: {}, ...limits }));
}

/** A running job whose owner has epoch 1. */
export async function createRunningJob(
  database: Database,
  ledger: Ledger,
  providerId: string,
  limits?: QueryLimits,
): Promise<string> {
  const id = newId('ftjob-');
  await database.job.create({
    data: {
      id,
      status: 'running',
      providerId,
      trainingFileId: 'file-none',
      seed: 1,
      method: {},
      plan: {},
      plannedGenerations: 1,
      epoch: 1,
    },
  });
  await database.$transaction((tx) => ledger.openAccount(tx, { id, kind: 'job', providerId }, limits));
  return id;
}

/** The UTC day, as the ledger names it. */
export function today(): string {
  return new Date().toISOString().slice(0, 10);
}
