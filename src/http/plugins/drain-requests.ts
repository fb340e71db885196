import type { FastifyInstance } from 'fastify';

const PATIENCE_MS = 30_000;

/**
 * Reads on, after an answer, what is left of a request's body. A refused upload would otherwise stay in the connection
 * and block the next request that its client sends on it. Whoever goes on sending for too long is cut off.
 */
export function registerDraining(app: FastifyInstance): void {
  app.addHook('onResponse', async ({ raw }) => {
    if (raw.complete && raw.readableEnded) return;
    raw.unpipe();
    raw.resume();
    const timer = setTimeout(() => {
      if (!raw.complete) raw.destroy();
    }, PATIENCE_MS);
    timer.unref();
    raw.once('close', () => clearTimeout(timer));
  });
}
