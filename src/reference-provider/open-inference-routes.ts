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
import { requireKey } from './authentication.js';
import type { EmojiClip, ScoreRequest } from './emoji-clip.js';
import { exchange, type Question, type Service } from './exchange.js';
import { OUTPUT_NAME, readScoreRequest } from './infer-request.js';
import type { ContentFault } from './misbehaviour.js';
import { MODEL_VERSION, modelMetadata, SERVER_METADATA } from './model-metadata.js';
import { encodeSpoilt } from './open-inference-faults.js';
import { questionHash } from './question-hash.js';

/** The Open Inference Protocol v2 over HTTP for one model. */
export async function openInferenceRoutes(app: FastifyInstance, options: Service): Promise<void> {
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
      models.post(
        `${path}/infer`,
        exchange(options, (request, fault) => readQuestion(request, options.model, fault)),
      );
    }
  });
}

function readQuestion(request: FastifyRequest, model: EmojiClip, fault: ContentFault | undefined): Question {
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
  return {
    served: { prompts: question.prompts.length, images: question.images.length },
    question: () => questionHash(question),
    compute: () => model.score(question),
    encode: (logits) => encodeAnswer(model.config.name, inference, question, logits, fault),
  };
}

function encodeAnswer(
  modelName: string,
  inference: InferRequest,
  { prompts, images, classNames }: ScoreRequest,
  data: Float32Array,
  fault: ContentFault | undefined,
): EncodedBody {
  const response = {
    modelName,
    modelVersion: MODEL_VERSION,
    id: inference.id,
    parameters: { billed_requests: 1, billed_image_queries: prompts.length * images.length },
  };
  const shape = [prompts.length, images.length, classNames.length];
  const logits = { name: OUTPUT_NAME, datatype: 'FP32' as const, shape, data };
  const binary = wantsBinary(inference, OUTPUT_NAME);
  if (fault !== undefined) return encodeSpoilt(response, logits, fault, binary);
  return encodeInferResponse({ ...response, outputs: [logits] }, () => binary);
}
