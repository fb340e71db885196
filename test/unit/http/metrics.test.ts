import Fastify from 'fastify';
import { describe, expect, it } from 'vitest';
import { registerMetrics } from '../../../src/http/plugins/metrics.js';

const JOBS = { name: 'craft_jobs', help: 'Jobs by status.', labels: { status: 'running' }, value: 3 };

describe('/metrics', () => {
  it('leaves out what Postgres and the queue know while they are away, and nothing else', async () => {
    let away = false;
    const app = Fastify();
    registerMetrics(app, {
      async gauges() {
        if (away) throw new Error('gone');
        return [JOBS];
      },
    });
    const scrape = async () => {
      const reply = await app.inject('/metrics');
      expect(reply.statusCode).toBe(200);
      return reply.body;
    };
    const whole = await scrape();
    expect(whole).toMatch(/^craft_jobs\{status="running"\} 3$/m);
    expect(whole).toMatch(/^craft_stores_up 1$/m);
    away = true;
    const without = await scrape();
    expect(without).toMatch(/^craft_stores_up 0$/m);
    expect(without).toMatch(/^process_resident_memory_bytes /m);
    expect(without).not.toMatch(/^craft_jobs\{/m);
    away = false;
    expect(await scrape()).toMatch(/^craft_stores_up 1$/m);
    await app.close();
  });
});
