import { describe, expect, it } from 'vitest';
import { findRedisServer } from '../../chaos/redis.js';
import { summary } from '../../chaos/report.js';
import { type ChaosOptions, runChaos } from '../../chaos/run.js';

/** Short runs of `npm run chaos`: the same driver, fewer kills. */
async function disturb(options: Pick<ChaosOptions, 'kills' | 'queue' | 'idempotency'>): Promise<void> {
  const result = await runChaos({ seed: 1, jobs: 3, firstRound: 1, ...options });
  expect(result.breaches, summary(result)).toEqual([]);
  expect(result.kills).toBeGreaterThanOrEqual(options.kills);
}

const hasRedis = findRedisServer() !== undefined;
if (!hasRedis) console.warn('Chaos with the queue on Redis is left out: there is no redis-server on the PATH.');

describe('the service whose processes are killed at random moments', () => {
  it(
    'loses, miscounts and changes nothing with its queue on Postgres and a provider without idempotency keys',
    {
      timeout: 600_000,
    },
    () => disturb({ kills: 10, queue: 'postgres', idempotency: false }),
  );

  it.skipIf(!hasRedis)(
    'pays for nothing twice with its queue on Redis and a provider with idempotency keys',
    {
      timeout: 600_000,
    },
    () => disturb({ kills: 5, queue: 'redis', idempotency: true }),
  );
});
