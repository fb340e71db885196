// Callers that each wait for an answer before they ask again: what concurrency means for a service that people wait for.
import { Pool } from 'undici';

/**
 * @param {object} load
 * @param {string} load.origin
 * @param {number} load.callers
 * @param {() => import('undici').Dispatcher.RequestOptions | undefined} load.next the next request; undefined ends a caller
 * @returns {Promise<{ latencies: number[], seconds: number }>} milliseconds of each request, sorted
 * @throws where an answer is no success
 */
export async function closedLoop({ origin, callers, next }) {
  const pool = new Pool(origin, { connections: callers, pipelining: 1 });
  const latencies = [];
  const startedAt = performance.now();
  async function call() {
    for (let request = next(); request; request = next()) {
      const sentAt = performance.now();
      const { statusCode, body } = await pool.request(request);
      const answer = await body.arrayBuffer();
      latencies.push(performance.now() - sentAt);
      if (statusCode !== 200) throw new Error(`${request.path} answered ${statusCode}: ${Buffer.from(answer)}`);
    }
  }
  try {
    await Promise.all(Array.from({ length: callers }, call));
  } finally {
    await pool.close();
  }
  const seconds = (performance.now() - startedAt) / 1000;
  return { latencies: latencies.sort((a, b) => a - b), seconds };
}

/** Asks for `count` of what `make` makes, of the index. */
export function counted(count, make) {
  let index = 0;
  return () => (index < count ? make(index++) : undefined);
}

export function percentile(sorted, fraction) {
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * fraction))];
}
