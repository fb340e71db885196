import type { FastifyPluginAsyncZod } from 'fastify-type-provider-zod';
import { z } from 'zod';
import { CraftError } from '../../errors.js';
import { errorResponses } from '../schemas/common.js';
import type { Services } from '../services.js';

const ok = z.object({ status: z.literal('ok') });

export const healthRoutes: FastifyPluginAsyncZod<{ services: Services }> = async (app, { services }) => {
  app.get(
    '/healthz',
    {
      schema: {
        tags: ['Operations'],
        operationId: 'health',
        summary: 'Is the process alive?',
        security: [],
        response: { 200: ok, ...errorResponses },
      },
    },
    async () => ({ status: 'ok' as const }),
  );

  app.get(
    '/readyz',
    {
      schema: {
        tags: ['Operations'],
        operationId: 'readiness',
        summary: 'Can it do its work (Postgres, queue)?',
        security: [],
        response: { 200: ok, ...errorResponses },
      },
    },
    async (request) => {
      try {
        await services.checkReady();
      } catch (error) {
        request.log.warn({ err: error }, 'not ready');
        throw new CraftError(503, 'server_error', {
          code: 'not_ready',
          message: 'Postgres or the queue does not answer. Try again shortly.',
          retryAfterSeconds: 5,
        });
      }
      return { status: 'ok' as const };
    },
  );
};
