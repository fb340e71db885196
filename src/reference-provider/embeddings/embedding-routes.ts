import type { FastifyInstance } from 'fastify';
import { requireKey } from '../authentication.js';
import { jsonExchange, type Service } from '../exchange.js';
import { errorHandler, type Problem } from '../problem.js';
import { cohereEmbed } from './cohere-embed.js';
import { voyageEmbeddings } from './voyage-embeddings.js';

/** Embeddings as Cohere and Voyage offer them; those in OpenAI's form are among OpenAI's routes. */
export async function embeddingRoutes(app: FastifyInstance, service: Service): Promise<void> {
  app.addHook('onRequest', requireKey(service.apiKeys));
  await app.register(async (cohere) => {
    cohere.setErrorHandler(errorHandler(service.bodyLimit, ({ message }: Problem) => ({ message })));
    cohere.post(
      '/v2/embed',
      jsonExchange(service, (body) => cohereEmbed(service.model, body)),
    );
  });
  await app.register(async (voyage) => {
    voyage.setErrorHandler(errorHandler(service.bodyLimit, ({ message }: Problem) => ({ detail: message })));
    voyage.post(
      '/v1/multimodalembeddings',
      jsonExchange(service, (body) => voyageEmbeddings(service.model, body)),
    );
  });
}
