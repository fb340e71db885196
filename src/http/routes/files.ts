import type { FastifyRequest } from 'fastify';
import type { FastifyPluginAsyncZod } from 'fastify-type-provider-zod';
import { z } from 'zod';
import { type DatasetStore, FILE_PURPOSE, type FileRecord } from '../../datasets/dataset-store.js';
import { InvalidRequestError } from '../../errors.js';
import { formParts } from '../forms.js';
import { errorResponses, pageQuery, toList } from '../schemas/common.js';
import { deletedFileSchema, fileListSchema, fileSchema, toFile } from '../schemas/files.js';
import type { Services } from '../services.js';

const params = z.object({ file_id: z.string().max(128) });

const uploadForm = z.object({
  purpose: z.literal(FILE_PURPOSE),
  file: z
    .string()
    .meta({ format: 'binary' })
    .describe(
      'A ZIP with one folder per class, optionally under train/ and validation/; or a JSONL with one {"image": <data URI>, "label": …} per line.',
    ),
});

export const fileRoutes: FastifyPluginAsyncZod<{ services: Services }> = async (app, { services }) => {
  const { datasets, jobs } = services;

  app.post(
    '/files',
    {
      config: { documentedBodies: { 'multipart/form-data': uploadForm } },
      schema: {
        tags: ['Files'],
        operationId: 'createFile',
        summary: 'Upload a labelled data set',
        description: 'Checked as it arrives; a refused upload leaves nothing behind.',
        consumes: ['multipart/form-data'],
        response: { 200: fileSchema, ...errorResponses },
      },
    },
    async (request) => toFile(await receiveUpload(request, datasets)),
  );

  app.get(
    '/files',
    {
      schema: {
        tags: ['Files'],
        operationId: 'listFiles',
        summary: 'List files',
        querystring: pageQuery.extend({
          order: z.enum(['asc', 'desc']).default('desc').describe('By creation time.'),
          purpose: z.string().max(64).optional(),
        }),
        response: { 200: fileListSchema, ...errorResponses },
      },
    },
    async ({ query }) => {
      const page = await datasets.list(query);
      const wanted = query.purpose === undefined || query.purpose === FILE_PURPOSE;
      return toList(wanted ? page.data.map(toFile) : [], wanted && page.hasMore);
    },
  );

  app.get(
    '/files/:file_id',
    {
      schema: {
        tags: ['Files'],
        operationId: 'retrieveFile',
        summary: 'One file',
        params,
        response: { 200: fileSchema, ...errorResponses },
      },
    },
    async (request) => toFile(await datasets.get(request.params.file_id, 'file_id')),
  );

  app.delete(
    '/files/:file_id',
    {
      schema: {
        tags: ['Files'],
        operationId: 'deleteFile',
        summary: 'Delete a file',
        description: '409 while a job that is not finished uses it.',
        params,
        response: { 200: deletedFileSchema, ...errorResponses },
      },
    },
    async (request) => {
      const id = request.params.file_id;
      await datasets.get(id, 'file_id');
      await jobs.requireFileUnused(id);
      await datasets.delete(id);
      return { id, object: 'file' as const, deleted: true as const };
    },
  );

  app.get(
    '/files/:file_id/content',
    {
      schema: {
        tags: ['Files'],
        operationId: 'downloadFile',
        summary: 'The upload as it came',
        params,
        produces: ['application/octet-stream'],
      },
    },
    async (request, reply) => {
      const { id } = await datasets.get(request.params.file_id, 'file_id');
      const content = await datasets.openContent(id);
      return reply
        .type(content.mediaType)
        .header('content-length', content.bytes)
        .header('content-disposition', `attachment; filename*=UTF-8''${encodeURIComponent(content.filename)}`)
        .send(content.stream);
    },
  );
};

/** The form's fields may come before or after the file, so the purpose is checked where it is met. */
async function receiveUpload(request: FastifyRequest, datasets: DatasetStore): Promise<FileRecord> {
  let purpose: string | undefined;
  let record: FileRecord | undefined;
  try {
    for await (const part of formParts(request)) {
      if (part.type === 'field') {
        if (part.fieldname === 'purpose') purpose = String(part.value);
        continue;
      }
      if (part.fieldname !== 'file' || record) {
        part.file.resume();
        throw new InvalidRequestError({
          code: record ? 'one_file_expected' : 'unexpected_file_field',
          param: part.fieldname.slice(0, 64),
          message: 'Send exactly one file, in the form field "file".',
        });
      }
      record = await datasets.create({
        stream: part.file,
        filename: part.filename,
        purpose: purpose ?? FILE_PURPOSE,
      });
    }
    if (purpose === undefined) {
      throw new InvalidRequestError({
        code: 'purpose_missing',
        param: 'purpose',
        message: `Send the form field purpose=${FILE_PURPOSE}.`,
      });
    }
    if (purpose !== FILE_PURPOSE) {
      throw new InvalidRequestError({
        code: 'invalid_purpose',
        param: 'purpose',
        message: `The purpose must be "${FILE_PURPOSE}".`,
      });
    }
    if (!record) {
      throw new InvalidRequestError({
        code: 'file_missing',
        param: 'file',
        message: 'Send the data set in the form field "file".',
      });
    }
    return record;
  } catch (error) {
    if (record) await datasets.delete(record.id);
    throw error;
  }
}
