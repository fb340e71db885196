import type { FastifyPluginAsyncZod } from 'fastify-type-provider-zod';
import { z } from 'zod';
import { NotFoundError } from '../../errors.js';
import { DEFAULT_PROJECT } from '../../ledger/accounts.js';
import { queryLimitsSchema, toAmountLimits } from '../../providers/query-limits.js';
import { balanceSchema, errorResponses, toBalance } from '../schemas/common.js';
import type { Services } from '../services.js';

const projectSchema = z
  .object({
    id: z.string(),
    object: z.literal('project'),
    budget: balanceSchema.describe('What all jobs, predictions and zero-shot calls may spend together.'),
  })
  .meta({ id: 'Project' });

const params = z.object({ project_id: z.string().max(128).describe(`There is one: ${DEFAULT_PROJECT}.`) });

export const projectRoutes: FastifyPluginAsyncZod<{ services: Services }> = async (app, { services }) => {
  const { ledger } = services;
  const response = { 200: projectSchema, ...errorResponses };
  const answer = async (id: string) => ({
    id,
    object: 'project' as const,
    budget: toBalance(await ledger.balance(id)),
  });

  app.get(
    '/projects/:project_id',
    {
      schema: {
        tags: ['Projects'],
        operationId: 'retrieveProject',
        summary: 'The project, with what was spent in it',
        params,
        response,
      },
    },
    async (request) => answer(requireProject(request.params.project_id)),
  );

  app.patch(
    '/projects/:project_id',
    {
      schema: {
        tags: ['Projects'],
        operationId: 'updateProject',
        summary: "Change the project's limits",
        description:
          'Limits that are left out stay; null removes one. They hold at once, for running jobs, too: a job that meets one is paused, and resumes by itself when there is room again.',
        params,
        body: z.strictObject({ budget: queryLimitsSchema }),
        response,
      },
    },
    async (request) => {
      const id = requireProject(request.params.project_id);
      await ledger.changeLimits(id, toAmountLimits(request.body.budget));
      return answer(id);
    },
  );
};

function requireProject(id: string): string {
  if (id === DEFAULT_PROJECT) return id;
  throw new NotFoundError({
    code: 'project_not_found',
    param: 'project_id',
    message: `There is no project ${id}. Everything belongs to ${DEFAULT_PROJECT}.`,
  });
}
