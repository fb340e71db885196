import type { FastifyInstance } from 'fastify';
import { collectDefaultMetrics, Gauge, Histogram, Registry } from 'prom-client';
import type { Services } from '../services.js';

/** GET /metrics in Prometheus' text format: requests by route, the process, jobs by status, the queue. */
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
  const scraped = new Map<string, Gauge>();

  app.addHook('onResponse', async (request, reply) => {
    const route = request.routeOptions.url ?? 'unknown';
    duration.observe({ method: request.method, route, status: String(reply.statusCode) }, reply.elapsedTime / 1000);
  });

  app.get('/metrics', { schema: { hide: true }, config: { rateLimit: false } }, async (_request, reply) => {
    for (const gauge of scraped.values()) gauge.reset();
    for (const { name, help, labels, value } of await services.gauges()) {
      const labelNames = Object.keys(labels);
      const gauge = scraped.get(name) ?? new Gauge({ name, help, labelNames, registers: [registry] });
      scraped.set(name, gauge);
      gauge.set(labels, value);
    }
    return reply.type(registry.contentType).send(await registry.metrics());
  });
}
