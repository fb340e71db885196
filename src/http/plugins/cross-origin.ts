import cors from '@fastify/cors';
import type { FastifyInstance } from 'fastify';

const DAY_SECONDS = 86_400;

/** Lets pages of other origins call the API from a browser. Keys go in the Authorization header; there are no cookies. */
export async function registerCrossOrigin(app: FastifyInstance, origins: '*' | string[]): Promise<void> {
  if (origins.length === 0) return;
  await app.register(cors, {
    origin: origins,
    methods: ['GET', 'HEAD', 'POST', 'PATCH', 'DELETE'],
    exposedHeaders: [
      'x-request-id',
      'retry-after',
      'x-should-retry',
      'idempotent-replayed',
      'x-ratelimit-limit',
      'x-ratelimit-remaining',
      'x-ratelimit-reset',
      'content-disposition',
      'www-authenticate',
    ],
    maxAge: DAY_SECONDS,
    // An OPTIONS that asks for no permission is no mistake.
    strictPreflight: false,
  });
}
