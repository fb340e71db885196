import type { FastifyPluginAsyncZod } from 'fastify-type-provider-zod';
import { z } from 'zod';
import type { AdapterInfo } from '../../adapters/adapter-store.js';
import { InvalidRequestError } from '../../errors.js';
import { PROVIDER_NAME } from '../../providers/provider-record.js';
import { fileBytes, formParts, requireFirst } from '../forms.js';
import { parseInput } from '../plugins/error-replies.js';
import { adapterListSchema, adapterSchema, deletedAdapterSchema, toAdapter } from '../schemas/adapters.js';
import { errorResponses, fileAnswer, pageQuery, toList } from '../schemas/common.js';
import type { Services } from '../services.js';

const params = z.object({ adapter_id: z.string().max(200) });
const MAX_ADAPTER_BYTES = 256 * 1024 * 1024;

const importFields = z.strictObject({
  model: z.string().regex(PROVIDER_NAME).optional().describe("A provider's name; the exported one where left out."),
  suffix: z
    .string()
    .regex(/^[A-Za-z0-9_-]{1,64}$/)
    .optional(),
});

const importForm = importFields.extend({
  file: z.string().meta({ format: 'binary' }).describe('A file from GET /v1/adapters/{id}/export.'),
});

export const adapterRoutes: FastifyPluginAsyncZod<{ services: Services }> = async (app, { services }) => {
  const { adapters, ledger, predictor } = services;
  const answer = async (info: AdapterInfo) => {
    const [balance, cost] = await Promise.all([ledger.balance(info.id), predictor.cost(info.id)]);
    return toAdapter(info, balance, cost);
  };

  app.get(
    '/adapters',
    {
      schema: {
        tags: ['Adapters'],
        operationId: 'listAdapters',
        summary: 'List adapters, newest first',
        querystring: pageQuery,
        response: { 200: adapterListSchema, ...errorResponses },
      },
    },
    async (request) => {
      const page = await adapters.list(request.query);
      const balances = await ledger.balances(page.data.map((adapter) => adapter.id));
      return toList(
        page.data.map((adapter) => toAdapter(adapter, balances.get(adapter.id)!)),
        page.hasMore,
      );
    },
  );

  app.get(
    '/adapters/:adapter_id',
    {
      schema: {
        tags: ['Adapters'],
        operationId: 'retrieveAdapter',
        summary: 'One adapter',
        params,
        response: { 200: adapterSchema, ...errorResponses },
      },
    },
    async (request) => answer(await adapters.get(request.params.adapter_id)),
  );

  app.delete(
    '/adapters/:adapter_id',
    {
      schema: {
        tags: ['Adapters'],
        operationId: 'deleteAdapter',
        summary: 'Delete an adapter',
        params,
        response: { 200: deletedAdapterSchema, ...errorResponses },
      },
    },
    async (request) => {
      const id = request.params.adapter_id;
      await adapters.delete(id);
      return { id, object: 'adapter' as const, deleted: true as const };
    },
  );

  app.get(
    '/adapters/:adapter_id/export',
    {
      schema: {
        tags: ['Adapters'],
        operationId: 'exportAdapter',
        summary: 'The adapter as one safetensors file',
        description: 'Prompt, refinement head, classes, provider, hyperparameters and metrics.',
        params,
        response: { 200: fileAnswer('The file.', 'application/octet-stream'), ...errorResponses },
      },
    },
    async (request, reply) => {
      const id = request.params.adapter_id;
      const bytes = await adapters.export(id);
      return reply
        .type('application/octet-stream')
        .header('content-disposition', `attachment; filename="${id.replace(/[^A-Za-z0-9._-]+/g, '-')}.safetensors"`)
        .send(Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength));
    },
  );

  app.post(
    '/adapters/import',
    {
      config: { documentedBodies: { 'multipart/form-data': importForm } },
      schema: {
        tags: ['Adapters'],
        operationId: 'importAdapter',
        summary: 'Import an exported adapter',
        consumes: ['multipart/form-data'],
        response: { 200: adapterSchema, ...errorResponses },
      },
    },
    async (request) => {
      const fields: Record<string, unknown> = {};
      let bytes: Buffer | undefined;
      for await (const part of formParts(request, { limits: { fileSize: MAX_ADAPTER_BYTES, files: 1 } })) {
        if (part.type === 'file') {
          bytes = await fileBytes(part);
        } else {
          requireFirst(part, fields);
          fields[part.fieldname] = part.value;
        }
      }
      if (!bytes) {
        throw new InvalidRequestError({
          code: 'file_missing',
          param: 'file',
          message: 'Send the exported adapter in the form field "file".',
        });
      }
      return answer(await adapters.import(bytes, parseInput(importFields, fields)));
    },
  );
};
