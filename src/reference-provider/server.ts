import fastify, { type FastifyInstance, type FastifyServerOptions } from 'fastify';
import { controlRoutes } from './control-routes.js';
import { Delivery } from './delivery.js';
import { embeddingRoutes } from './embeddings/embedding-routes.js';
import type { EmojiClip } from './emoji-clip.js';
import type { Service } from './exchange.js';
import { huggingFaceRoutes } from './hugging-face/hugging-face-routes.js';
import { UnknownImagesError } from './image-features.js';
import { Misbehaviour } from './misbehaviour.js';
import { openInferenceRoutes } from './open-inference-routes.js';
import { openAiRoutes } from './openai/openai-routes.js';
import { errorHandler, type Problem } from './problem.js';
import { type PurchaseOptions, Purchases } from './purchases.js';

export interface ServerOptions extends PurchaseOptions {
  model: EmojiClip;
  /** The keys that may use the model; without them any key, or none, may. */
  apiKeys?: string[];
  /** The key of the control endpoints; without it they are open. */
  controlKey?: string;
  logger?: FastifyServerOptions['logger'];
  /** Largest request body in bytes. */
  bodyLimit?: number;
}

export interface ReferenceServer {
  app: FastifyInstance;
  purchases: Purchases;
  misbehaviour: Misbehaviour;
}

const BODY_LIMIT = 256 * 1024 * 1024;

/** Builds the provider's HTTP server; it does not listen yet. */
export function buildServer(options: ServerOptions): ReferenceServer {
  const { model, apiKeys, controlKey } = options;
  const bodyLimit = options.bodyLimit ?? BODY_LIMIT;
  const purchases = new Purchases(options);
  const misbehaviour = new Misbehaviour();
  const delivery = new Delivery(model.config.name);
  const app: FastifyInstance = fastify({ logger: quietly(options.logger), bodyLimit });

  app.setErrorHandler(errorHandler(bodyLimit, openInferenceError));
  app.setNotFoundHandler((request, reply) => {
    reply.code(404).send({ error: `There is no ${request.method} ${pathOf(request.url)} here.`, code: 'not_found' });
  });
  app.addHook('preClose', async () => delivery.close());
  app.addHook('onClose', async () => purchases.close());
  // Otherwise a client's keep-alive would hold the closing server until it times out.
  app.addHook('onSend', async (_request, reply) => {
    if (delivery.closed) reply.header('connection', 'close');
  });
  const service: Service = { model, purchases, misbehaviour, delivery, apiKeys, bodyLimit };
  for (const routes of [openInferenceRoutes, huggingFaceRoutes, openAiRoutes, embeddingRoutes]) {
    app.register(routes, service);
  }
  app.register(controlRoutes, { model, purchases, misbehaviour, controlKey });
  return { app, purchases, misbehaviour };
}

function openInferenceError({ message, code, cause }: Problem) {
  return { error: message, code, ...(cause instanceof UnknownImagesError ? { missing: cause.missing } : {}) };
}

/** Logs paths without their query, which may name an API key; headers and bodies are never logged. */
function quietly(logger: ServerOptions['logger']): FastifyServerOptions['logger'] {
  if (logger === undefined || logger === false) return false;
  const given = logger === true ? {} : logger;
  return {
    ...given,
    serializers: {
      ...given.serializers,
      req: (request) => ({ method: request.method, path: pathOf(request.url) }),
    },
  };
}

function pathOf(url: string): string {
  return url.split('?', 1)[0];
}
