import type { FastifyInstance, FastifyRequest } from 'fastify';
import { UnsupportedMediaTypeError } from '../errors.js';
import {
  decodeInferRequest,
  type EncodedBody,
  encodeInferResponse,
  HEADER_LENGTH_FIELD,
  wantsBinary,
} from '../formats/open-inference-binary.js';
import { bearerKey, requireKey } from './authentication.js';
import type { Delivery } from './delivery.js';
import type { EmojiClip } from './emoji-clip.js';
import { OUTPUT_NAME, readScoreRequest } from './infer-request.js';
import type { Misbehaviour } from './misbehaviour.js';
import { MODEL_VERSION, modelMetadata, SERVER_METADATA } from './model-metadata.js';
import { clientName, type UsageCounter } from './usage-counter.js';

export interface OpenInferenceOptions {
  model: EmojiClip;
  usage: UsageCounter;
  misbehaviour: Misbehaviour;
  delivery: Delivery;
  apiKeys?: string[];
  /** Largest request body in bytes. */
  bodyLimit: number;
}

/** The Open Inference Protocol v2 over HTTP for one model. */
export async function openInferenceRoutes(app: FastifyInstance, options: OpenInferenceOptions): Promise<void> {
  app.removeAllContentTypeParsers();
  app.addContentTypeParser('*', { parseAs: 'buffer' }, (_request, body, done) => done(null, body));

  app.get('/v2', async () => SERVER_METADATA);
  app.get('/v2/health/live', async () => ({ live: true }));
  app.get('/v2/health/ready', async () => ({ ready: true }));

  await app.register(async (models) => {
    models.addHook('onRequest', requireKey(options.apiKeys));
    const { name } = options.model.config;
    const metadata = modelMetadata(options.model, options.bodyLimit);
    for (const path of [`/v2/models/${name}`, `/v2/models/${name}/versions/${MODEL_VERSION}`]) {
      models.get(path, async () => metadata);
      models.get(`${path}/ready`, async () => ({ name, ready: true }));
      models.post(`${path}/infer`, async (request, reply) => {
        const verdict = options.misbehaviour.next();
        if (await options.delivery.interrupts(verdict, request, reply)) return reply;
        const answer = await serve(request, options);
        options.delivery.send(answer, verdict.fault, request, reply);
        return reply;
      });
    }
  });
}

/** Computes the answer and counts it: from here on it is billed, whatever happens to it on the way to the client. */
async function serve(request: FastifyRequest, { model, usage }: OpenInferenceOptions): Promise<EncodedBody> {
  const encoding = request.headers['content-encoding'];
  if (encoding !== undefined && encoding !== 'identity') {
    throw new UnsupportedMediaTypeError({
      code: 'unsupported_content_encoding',
      message: `Content-Encoding ${encoding} is not supported; send the body as it is.`,
    });
  }
  const body = request.body instanceof Buffer ? request.body : Buffer.alloc(0);
  const inference = decodeInferRequest(body, request.headers[HEADER_LENGTH_FIELD]?.toString());
  const { context_positions, width } = model.config.text;
  const scoreRequest = readScoreRequest(inference, { tokens: context_positions.length, width });
  const logits = await model.score(scoreRequest);
  const { prompts, images, classNames } = scoreRequest;
  const answer = encodeInferResponse(
    {
      modelName: model.config.name,
      modelVersion: MODEL_VERSION,
      id: inference.id,
      outputs: [
        {
          name: OUTPUT_NAME,
          datatype: 'FP32',
          shape: [prompts.length, images.length, classNames.length],
          data: logits,
        },
      ],
    },
    (output) => wantsBinary(inference, output),
  );
  usage.count(clientName(bearerKey(request)), prompts.length, images.length);
  return answer;
}
