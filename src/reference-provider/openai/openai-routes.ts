import { randomBytes } from 'node:crypto';
import type { FastifyInstance } from 'fastify';
import { bearerOrApiKey, requireKey } from '../authentication.js';
import { openAiEmbeddings } from '../embeddings/openai-embeddings.js';
import { type JsonQuestion, jsonExchange, type Service } from '../exchange.js';
import { errorHandler } from '../problem.js';
import { requireModel } from '../require-model.js';
import { TOKENS_PER_IMAGE, textTokens } from '../token-count.js';
import { chatAnswer } from './chat-answer.js';
import { readChatRequest } from './chat-request.js';
import { openAiError } from './openai-errors.js';

/** OpenAI's models, chat completions (a choice among options) and embeddings. */
export async function openAiRoutes(app: FastifyInstance, service: Service): Promise<void> {
  const { model, apiKeys, bodyLimit } = service;
  app.setErrorHandler(errorHandler(bodyLimit, openAiError));
  app.addHook('onRequest', requireKey(apiKeys, bearerOrApiKey));
  const described = { id: model.config.name, object: 'model', created: 0, owned_by: 'craft-reference-provider' };

  app.get('/v1/models', async () => ({ object: 'list', data: [described] }));
  app.get<{ Params: { id: string } }>('/v1/models/:id', async (request) => {
    requireModel(model, request.params.id);
    return described;
  });
  app.post(
    '/v1/chat/completions',
    jsonExchange(service, (body) => readChat(service, body), bearerOrApiKey),
  );
  app.post(
    '/v1/embeddings',
    jsonExchange(service, (body) => openAiEmbeddings(service.model, body), bearerOrApiKey),
  );
}

function readChat({ model }: Service, body: unknown): JsonQuestion {
  const request = readChatRequest(body);
  requireModel(model, request.model);
  const { image, options } = request;
  const promptTokens = textTokens(model, request.texts) + TOKENS_PER_IMAGE;
  const id = `chatcmpl-${randomBytes(12).toString('hex')}`;
  return {
    served: { prompts: 1, images: 1 },
    about: ['chat', image.hash, options],
    compute: () =>
      model.score({ images: [image], classNames: options.map(({ text }) => text), prompts: [{ template: '{}' }] }),
    answer: (logits, fault) => chatAnswer(request, id, promptTokens, logits, fault),
  };
}
