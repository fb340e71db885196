import type { FastifyInstance } from 'fastify';
import { NotFoundError } from '../../errors.js';
import { requireKey } from '../authentication.js';
import { ModelLoadingError } from '../delivery.js';
import { type JsonQuestion, jsonExchange, type Service } from '../exchange.js';
import { errorHandler, type Problem } from '../problem.js';
import { zeroShotAnswer } from './zero-shot-answer.js';
import { readZeroShotRequest } from './zero-shot-request.js';

/** Hugging Face's zero-shot image classification, at the addresses of the serverless router and of an endpoint. */
export async function huggingFaceRoutes(app: FastifyInstance, service: Service): Promise<void> {
  const { model, apiKeys, bodyLimit } = service;
  app.setErrorHandler(errorHandler(bodyLimit, huggingFaceError));
  app.addHook('onRequest', requireKey(apiKeys));
  const classify = jsonExchange(service, (body) => readQuestion(service, body));

  app.post('/', classify);
  for (const base of ['/models', '/hf-inference/models']) {
    app.post(`${base}/${model.config.name}`, classify);
    app.post<{ Params: { '*': string } }>(`${base}/*`, async (request) => {
      throw new NotFoundError({
        code: 'model_not_found',
        message: `Model ${request.params['*']} does not exist; there is ${model.config.name}.`,
      });
    });
  }
}

function readQuestion({ model }: Service, body: unknown): JsonQuestion {
  const question = readZeroShotRequest(body, model.config.text.default_template);
  const { images, classNames, prompts } = question;
  return {
    served: { prompts: 1, images: 1 },
    about: ['zero-shot', images[0].hash, classNames, prompts],
    compute: () => model.score(question),
    answer: (logits, fault) => zeroShotAnswer(classNames, logits, fault),
  };
}

function huggingFaceError({ message, cause }: Problem) {
  return { error: message, ...(cause instanceof ModelLoadingError ? { estimated_time: cause.estimatedSeconds } : {}) };
}
