import type { FastifyPluginAsyncZod } from 'fastify-type-provider-zod';
import { z } from 'zod';
import { providerInputSchema, providerPatchSchema } from '../../providers/provider-record.js';
import type { ProviderInfo } from '../../providers/provider-store.js';
import { errorResponses } from '../schemas/common.js';
import { deletedProviderSchema, providerListSchema, providerSchema, toProvider } from '../schemas/providers.js';
import type { Services } from '../services.js';

const params = z.object({ provider_id: z.string().max(128) });

export const providerRoutes: FastifyPluginAsyncZod<{ services: Services }> = async (app, { services }) => {
  const { providers, ledger } = services;
  const answer = async (info: ProviderInfo) => toProvider(info, await ledger.providerBalances(info.id));
  const response = { 200: providerSchema, ...errorResponses };

  app.post(
    '/providers',
    {
      schema: {
        tags: ['Providers'],
        operationId: 'createProvider',
        summary: 'Register a black box',
        description: 'It is asked at once for its metadata, which must fit what the record says.',
        body: providerInputSchema,
        response,
      },
    },
    async (request) => answer(await providers.create(request.body)),
  );

  app.get(
    '/providers',
    {
      schema: {
        tags: ['Providers'],
        operationId: 'listProviders',
        summary: 'List providers',
        response: { 200: providerListSchema, ...errorResponses },
      },
    },
    async () => ({
      object: 'list' as const,
      data: await Promise.all((await providers.list()).map(answer)),
      has_more: false as const,
    }),
  );

  app.get(
    '/providers/:provider_id',
    {
      schema: {
        tags: ['Providers'],
        operationId: 'retrieveProvider',
        summary: 'One provider, with what was spent there',
        params,
        response,
      },
    },
    async (request) => answer(await providers.get(request.params.provider_id)),
  );

  app.patch(
    '/providers/:provider_id',
    {
      schema: {
        tags: ['Providers'],
        operationId: 'updateProvider',
        summary: 'Change a provider',
        description: 'Jobs that are running keep the record they started with.',
        params,
        body: providerPatchSchema,
        response,
      },
    },
    async (request) => answer(await providers.update(request.params.provider_id, request.body)),
  );

  app.delete(
    '/providers/:provider_id',
    {
      schema: {
        tags: ['Providers'],
        operationId: 'deleteProvider',
        summary: 'Delete a provider',
        description: 'Its adapters can no longer predict. 409 while a job that is not finished uses it.',
        params,
        response: { 200: deletedProviderSchema, ...errorResponses },
      },
    },
    async (request) => {
      const id = request.params.provider_id;
      await providers.delete(id);
      return { id, object: 'provider' as const, deleted: true as const };
    },
  );
};
