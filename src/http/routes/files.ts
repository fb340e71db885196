import type { MultipartFile, MultipartValue } from '@fastify/multipart';
import type { FastifyRequest } from 'fastify';
import type { FastifyPluginAsyncZod } from 'fastify-type-provider-zod';
import { z } from 'zod';
import { ClassTexts } from '../../datasets/class-texts.js';
import { type DatasetStore, FILE_PURPOSE, type FileRecord } from '../../datasets/dataset-store.js';
import { MEDIA_TYPES } from '../../datasets/detect-format.js';
import { InvalidRequestError, PayloadTooLargeError } from '../../errors.js';
import { formParts, requireFirst } from '../forms.js';
import { unknownParameter } from '../plugins/error-replies.js';
import { errorResponses, fileAnswer, pageQuery, toList } from '../schemas/common.js';
import { deletedFileSchema, fileListSchema, fileSchema, toFile } from '../schemas/files.js';
import type { Services } from '../services.js';

const params = z.object({ file_id: z.string().max(128) });

/** Names and descriptions of a thousand classes. */
const MAX_FIELD_BYTES = 1024 * 1024;

const uploadForm = z.strictObject({
  purpose: z.literal(FILE_PURPOSE),
  file: z
    .string()
    .meta({ format: 'binary' })
    .describe(
      'A ZIP with one folder per class, optionally under train/ and validation/, or with a list of its images (JSONL, CSV, ' +
        'metadata.jsonl, metadata.csv); a JSONL with one {"image": <data URI or URL>, "label": …} or one conversation of ' +
        "OpenAI's vision fine-tuning format per line; or a CSV with the columns image (data URI or URL) and label.",
    ),
  classes: z
    .string()
    .max(MAX_FIELD_BYTES)
    .optional()
    .describe(
      'JSON with display names and descriptions of classes: {"<folder or label>": "<name>" or {"name": …, "description": …}}, ' +
        'or a list of {"folder": …, "name": …, "description": …}. It goes before a classes.json in the ZIP.',
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
        response: { 200: fileAnswer('The upload.', ...Object.values(MEDIA_TYPES)), ...errorResponses },
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

type FormParts = ReturnType<typeof formParts>;

interface UploadFields {
  purpose?: string;
  classes?: string;
}

async function receiveUpload(request: FastifyRequest, datasets: DatasetStore): Promise<FileRecord> {
  const parts = formParts(request, { limits: { fieldSize: MAX_FIELD_BYTES } });
  try {
    return await createFrom(parts, datasets);
  } finally {
    await parts.return(undefined);
  }
}

/** The form's fields may come before or after the file; what depends on them waits for the form's end. */
async function createFrom(parts: FormParts, datasets: DatasetStore): Promise<FileRecord> {
  const fields: UploadFields = {};
  const file = await nextFile(parts, fields);
  if (!file) {
    requirePurpose(fields);
    throw new InvalidRequestError({
      code: 'file_missing',
      param: 'file',
      message: 'Send the data set in the form field "file".',
    });
  }
  return datasets.create({
    stream: file.file,
    filename: file.filename,
    purpose: fields.purpose ?? FILE_PURPOSE,
    async classTexts() {
      const second = await nextFile(parts, fields);
      if (second) throw unexpectedFile('one_file_expected', second);
      requirePurpose(fields);
      return fields.classes === undefined ? null : ClassTexts.parse(fields.classes, 'classes');
    },
  });
}

/** Reads a form up to its next file, and the fields on the way. */
async function nextFile(parts: FormParts, fields: UploadFields): Promise<MultipartFile | null> {
  for (;;) {
    const { value: part, done } = await parts.next();
    if (done) return null;
    if (part.type === 'file') {
      if (part.fieldname !== 'file') throw unexpectedFile('unexpected_file_field', part);
      return part;
    }
    requireFirst(part, fields);
    if (part.fieldname === 'purpose') fields.purpose = String(part.value);
    else if (part.fieldname === 'classes') fields.classes = classesOf(part);
    else throw unknownParameter(part.fieldname.slice(0, 64));
  }
}

function classesOf({ value, valueTruncated }: MultipartValue): string {
  if (valueTruncated) {
    throw new PayloadTooLargeError({
      code: 'field_too_large',
      param: 'classes',
      message: `The field "classes" has more than ${MAX_FIELD_BYTES} bytes. Put a classes.json into the ZIP, or say less.`,
    });
  }
  // A part that is declared as JSON has been parsed already.
  return typeof value === 'string' ? value : JSON.stringify(value);
}

function requirePurpose({ purpose }: UploadFields): void {
  if (purpose === FILE_PURPOSE) return;
  throw new InvalidRequestError({
    code: purpose === undefined ? 'purpose_missing' : 'invalid_purpose',
    param: 'purpose',
    message:
      purpose === undefined ? `Send the form field purpose=${FILE_PURPOSE}.` : `The purpose must be "${FILE_PURPOSE}".`,
  });
}

function unexpectedFile(code: string, part: MultipartFile): InvalidRequestError {
  part.file.resume();
  return new InvalidRequestError({
    code,
    param: part.fieldname.slice(0, 64),
    message: 'Send exactly one file, in the form field "file".',
  });
}
