import type { FastifyPluginAsyncZod } from 'fastify-type-provider-zod';
import { z } from 'zod';
import { testImage } from '../../adapters/provider-test.js';
import { decodeImageInput } from '../../datasets/image-input.js';
import { DEFAULT_DATASET_LIMITS } from '../../datasets/limits.js';
import type { ProviderImage } from '../../providers/provider.js';
import { providerInputSchema, providerPatchSchema } from '../../providers/provider-record.js';
import type { ProviderInfo } from '../../providers/provider-row.js';
import { errorResponses, pageQuery, toList } from '../schemas/common.js';
import {
  deletedProviderSchema,
  providerListSchema,
  providerSchema,
  providerTestBodySchema,
  providerTestSchema,
  toProvider,
  toProviderTest,
} from '../schemas/providers.js';
import type { Services } from '../services.js';

/** Without a body everything is as by default. */
const optionalTestBody = z.preprocess((body) => body ?? undefined, providerTestBodySchema.prefault({}));

const params = z.object({ provider_id: z.string().max(128) });

export const providerRoutes: FastifyPluginAsyncZod<{
  services: Services;
  maxPredictBytes: number;
}> = async (app, { services, maxPredictBytes }) => {
  const { providers, ledger, testQuery } = services;
  const answer = async (info: ProviderInfo) => toProvider(info, await ledger.providerBalances(info.id));
  const response = { 200: providerSchema, ...errorResponses };

  app.post(
    '/providers',
    {
      schema: {
        tags: ['Providers'],
        operationId: 'createProvider',
        summary: 'Register a black box',
        description:
          'Where the protocol has a question that costs nothing, it is asked at once: for its metadata (open_inference) or its models (openai_chat), which must fit what the record says. Of hugging_face, embeddings and custom_http only the record is checked; POST /v1/providers/{provider_id}/test asks one counted query.',
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
        summary: 'List providers, oldest first',
        querystring: pageQuery.extend({ limit: pageQuery.shape.limit.unwrap().default(100) }),
        response: { 200: providerListSchema, ...errorResponses },
      },
    },
    async (request) => {
      const page = await providers.list(request.query);
      const balances = await ledger.balancesOfProviders(page.data.map(({ id }) => id));
      return toList(
        page.data.map((info) => toProvider(info, balances.get(info.id)!)),
        page.hasMore,
      );
    },
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

  app.post(
    '/providers/:provider_id/test',
    {
      bodyLimit: maxPredictBytes,
      schema: {
        tags: ['Providers'],
        operationId: 'testProvider',
        summary: 'Ask a provider once',
        description:
          'Sends one counted query (of a provider that embeds one for the image and one for the texts), tried once, and tells what came back and what was understood. A provider that fails is an answer as well: then `error` says why.',
        params,
        body: optionalTestBody,
        response: { 200: providerTestSchema, ...errorResponses },
      },
    },
    async (request) => {
      const { image, labels, template } = request.body;
      const query = { image: await imageOf(image), labels, template, apiKeyId: request.caller.apiKeyId };
      const provider = await providers.get(request.params.provider_id);
      return toProviderTest(provider, await testQuery(provider.id, query));
    },
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

/** The image of a test query: the caller's, or one that is made for it. */
async function imageOf(text: string | undefined): Promise<ProviderImage> {
  if (text === undefined) return testImage();
  const { bytes, sha256 } = await decodeImageInput(text, DEFAULT_DATASET_LIMITS, 'image');
  return { sha256, size: bytes.length, bytes: async () => bytes };
}
