import type { FastifyInstance } from 'fastify';
import { collectDefaultMetrics, Gauge, Histogram, Registry } from 'prom-client';
import type { Services } from '../services.js';

/** A scrape has ten seconds by Prometheus' default. */
const GAUGES_MS = 5000;

/**
 * GET /metrics in Prometheus' text format: requests by route, the process, jobs by status, the queue. What is counted in
 * Postgres and the queue is left out while these do not answer; the rest is wanted most then.
 */
export function registerMetrics(app: FastifyInstance, services: Pick<Services, 'gauges'>): void {
  const registry = new Registry();
  collectDefaultMetrics({ register: registry });
  const duration = new Histogram({
    name: 'craft_http_request_duration_seconds',
    help: 'Time from request to response.',
    labelNames: ['method', 'route', 'status'],
    buckets: [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30],
    registers: [registry],
  });
  const up = new Gauge({
    name: 'craft_stores_up',
    help: 'Whether Postgres and the queue answered this scrape (1) or not (0).',
    registers: [registry],
  });
  const scraped = new Map<string, Gauge>();

  app.addHook('onResponse', async (request, reply) => {
    const route = request.routeOptions.url ?? 'unknown';
    duration.observe({ method: request.method, route, status: String(reply.statusCode) }, reply.elapsedTime / 1000);
  });

  app.get('/metrics', { schema: { hide: true }, config: { rateLimit: false } }, async (request, reply) => {
    for (const gauge of scraped.values()) gauge.reset();
    const gauges = await inTime(services.gauges()).catch((err) => {
      request.log.warn({ err }, 'metrics without what Postgres and the queue know');
      return null;
    });
    up.set(gauges === null ? 0 : 1);
    for (const { name, help, labels, value } of gauges ?? []) {
      const labelNames = Object.keys(labels);
      const gauge = scraped.get(name) ?? new Gauge({ name, help, labelNames, registers: [registry] });
      scraped.set(name, gauge);
      gauge.set(labels, value);
    }
    return reply.type(registry.contentType).send(await registry.metrics());
  });
}

async function inTime<T>(work: Promise<T>): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new Error('Postgres or the queue does not answer.')), GAUGES_MS);
  });
  return Promise.race([work, late]).finally(() => clearTimeout(timer));
}
