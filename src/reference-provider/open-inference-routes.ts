import type { FastifyInstance, FastifyRequest } from 'fastify';
import { UnsupportedMediaTypeError } from '../errors.js';
import {
  decodeInferRequest,
  type EncodedBody,
  encodeInferResponse,
  HEADER_LENGTH_FIELD,
  type InferRequest,
  wantsBinary,
} from '../formats/open-inference-binary.js';
import { bearerKey, requireKey } from './authentication.js';
import type { Delivery } from './delivery.js';
import type { EmojiClip, ScoreRequest } from './emoji-clip.js';
import { idempotencyKey } from './idempotency-key.js';
import { OUTPUT_NAME, readScoreRequest } from './infer-request.js';
import type { Misbehaviour } from './misbehaviour.js';
import { MODEL_VERSION, modelMetadata, SERVER_METADATA } from './model-metadata.js';
import type { Purchases } from './purchases.js';
import { clientName } from './usage-counter.js';

export interface OpenInferenceOptions {
  model: EmojiClip;
  purchases: Purchases;
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
    const metadata = modelMetadata(options.model, options.bodyLimit, options.purchases.idempotencyWindowSeconds);
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

async function serve(request: FastifyRequest, { model, purchases }: OpenInferenceOptions): Promise<EncodedBody> {
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
  const question = readScoreRequest(inference, { tokens: context_positions.length, width });
  return purchases.serve({
    client: clientName(bearerKey(request)),
    idempotencyKey: purchases.idempotencyWindowSeconds === undefined ? undefined : idempotencyKey(request),
    question,
    compute: () => model.score(question),
    encode: (logits) => encodeAnswer(model.config.name, inference, question, logits),
  });
}

function encodeAnswer(modelName: string, inference: InferRequest, question: ScoreRequest, logits: Float32Array) {
  const { prompts, images, classNames } = question;
  return encodeInferResponse(
    {
      modelName,
      modelVersion: MODEL_VERSION,
      id: inference.id,
      parameters: { billed_requests: 1, billed_image_queries: prompts.length * images.length },
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
}
