import type { FastifyReply, FastifyRequest } from 'fastify';
import type { FastifyPluginAsyncZod } from 'fastify-type-provider-zod';
import { z } from 'zod';
import { MOST_PREDICTION_VIEWS } from '../../adapters/predictor.js';
import type { RepeatableCalls } from '../../adapters/repeatable-requests.js';
import { type CheckedImage, checkImageBytes, decodeImageInputs, PixelCount } from '../../datasets/image-input.js';
import { DEFAULT_DATASET_LIMITS, type ImageLimits } from '../../datasets/limits.js';
import { InvalidRequestError } from '../../errors.js';
import type { ProviderImage } from '../../providers/provider.js';
import { fileBytes, formParts, requireFirst } from '../forms.js';
import { bodyTooLarge, parseInput } from '../plugins/error-replies.js';
import {
  DEFAULT_TOP_K,
  MAX_PREDICT_IMAGES,
  MOST_TOP_K,
  predictBodySchema,
  predictionSchema,
  predictOptions,
  toPrediction,
  zeroShotBodySchema,
} from '../schemas/adapters.js';
import { errorResponses, repeatableHeaders } from '../schemas/common.js';
import type { Services } from '../services.js';

const multipartForm = z.strictObject({
  images: z
    .array(z.string().meta({ format: 'binary' }))
    .min(1)
    .max(MAX_PREDICT_IMAGES),
  ...predictOptions,
});

/** Multipart fields are text; images come as files. */
const multipartFields = z.strictObject({
  top_k: wholeNumberField(MOST_TOP_K).default(DEFAULT_TOP_K),
  black_box: z
    .enum(['true', 'false'])
    .default('false')
    .transform((value) => value === 'true'),
  views: wholeNumberField(MOST_PREDICTION_VIEWS).optional(),
});

const multipartImages = z.object({
  images: z.array(z.unknown()).min(1, 'Send at least one image file.').max(MAX_PREDICT_IMAGES),
});

const limits: ImageLimits = DEFAULT_DATASET_LIMITS;

const headers = repeatableHeaders(
  'A repetition with the same key within 24 hours gets the first answer (with Idempotent-Replayed: true), and pays for nothing; after a failure, only for what was not answered yet. After an answer of the provider that was of no use (provider_answer_invalid) take a new key. A prediction with a key shares no provider calls with others.',
);

export const predictionRoutes: FastifyPluginAsyncZod<{ services: Services; maxPredictBytes: number }> = async (
  app,
  { services, maxPredictBytes },
) => {
  const { predictor, providers, repeatable } = services;

  /** @param content all that decides the answer */
  async function answerOnce<Answer extends object>(
    request: FastifyRequest,
    reply: FastifyReply,
    content: unknown,
    work: (calls?: RepeatableCalls) => Promise<Answer>,
  ): Promise<Answer> {
    const { 'idempotency-key': key } = request.headers as { 'idempotency-key'?: string };
    if (key === undefined) return work();
    const { apiKeyId } = request.caller;
    const { answer, isRepeated } = await repeatable.answer({ apiKeyId, key, content }, work);
    if (isRepeated) reply.header('idempotent-replayed', 'true');
    return answer;
  }

  app.post(
    '/adapters/:adapter_id/predict',
    {
      bodyLimit: maxPredictBytes,
      config: { documentedBodies: { 'application/json': predictBodySchema, 'multipart/form-data': multipartForm } },
      schema: {
        tags: ['Adapters'],
        operationId: 'predict',
        summary: 'Predict the classes of images',
        description: `1 to ${MAX_PREDICT_IMAGES} images; one image query each, or one for each view; equal ones are asked about once. JSON with data URIs, or multipart with files. Predictions at the same time share provider calls, and usage is what of them is this one's share.`,
        params: z.object({ adapter_id: z.string().max(200) }),
        headers,
        response: { 200: predictionSchema, ...errorResponses },
      },
    },
    async (request, reply) => {
      const id = request.params.adapter_id;
      const hasBeenRead = predictor.expect(id);
      const { images, ...options } = await readPredictRequest(request, maxPredictBytes).finally(hasBeenRead);
      const { apiKeyId } = request.caller;
      return answerOnce(request, reply, ['predict', id, hashesOf(images), options], async (repeatable) =>
        toPrediction(id, await predictor.predict(id, images, { ...options, apiKeyId, repeatable })),
      );
    },
  );

  app.post(
    '/providers/:provider_id/zero_shot',
    {
      bodyLimit: maxPredictBytes,
      schema: {
        tags: ['Providers'],
        operationId: 'zeroShot',
        summary: 'What the black box says by itself, without any training',
        description: 'For comparison with an adapter. One image query for each image.',
        params: z.object({ provider_id: z.string().max(128) }),
        headers,
        body: zeroShotBodySchema,
        response: { 200: predictionSchema, ...errorResponses },
      },
    },
    async (request, reply) => {
      const { provider_id: id } = request.params;
      const { images, labels, template, top_k: topK } = request.body;
      const provider = await providers.get(id);
      const checked = await decodeImages(images);
      const { apiKeyId } = request.caller;
      const asked = { labels, template, topK };
      return answerOnce(request, reply, ['zero_shot', id, hashesOf(checked), asked], async (repeatable) =>
        toPrediction(provider.name, await predictor.zeroShot(id, checked, { ...asked, apiKeyId, repeatable })),
      );
    },
  );
};

async function readPredictRequest(request: FastifyRequest, maxBytes: number) {
  if (!request.isMultipart()) {
    const body = parseInput(predictBodySchema, request.body ?? {});
    return { images: await decodeImages(body.images), topK: body.top_k, blackBox: body.black_box, views: body.views };
  }
  const fields: Record<string, unknown> = {};
  const images: ProviderImage[] = [];
  const pixels = new PixelCount();
  let size = 0;
  for await (const part of formParts(request, { limits: { fileSize: Math.min(maxBytes, limits.maxImageBytes) } })) {
    if (part.type === 'field') {
      if (part.fieldname === 'images') throw imagesAsText();
      requireFirst(part, fields);
      // A part that is declared as JSON has been parsed already.
      fields[part.fieldname] = String(part.value);
      continue;
    }
    const bytes = await fileBytes(part);
    size += bytes.length;
    if (size > maxBytes) throw bodyTooLarge();
    const image = await checkImageBytes(bytes, limits, `images.${images.length}`);
    pixels.add(image);
    images.push(toProviderImage(image));
  }
  const { top_k: topK, black_box: blackBox, views } = parseInput(multipartFields, fields);
  parseInput(multipartImages, { images });
  return { images, topK, blackBox, views };
}

/** A form's field with a whole number from 1 to `most`. */
function wholeNumberField(most: number) {
  const error = `Send a whole number from 1 to ${most}.`;
  return z
    .string()
    .trim()
    .regex(/^\d+$/, { error })
    .transform(Number)
    .pipe(z.int({ error }).min(1, { error }).max(most, { error }));
}

function imagesAsText(): InvalidRequestError {
  return new InvalidRequestError({
    code: 'images_not_files',
    param: 'images',
    message:
      'A form has its images as files, with a filename each (curl -F images=@cat.png). Send data URIs in a JSON body.',
  });
}

async function decodeImages(images: string[]): Promise<ProviderImage[]> {
  return (await decodeImageInputs(images, limits)).map(toProviderImage);
}

function hashesOf(images: ProviderImage[]): string[] {
  return images.map(({ sha256 }) => sha256);
}

function toProviderImage(image: CheckedImage): ProviderImage {
  return { sha256: image.sha256, size: image.bytes.length, bytes: async () => image.bytes };
}
