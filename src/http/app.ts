import type { IncomingMessage } from 'node:http';
import helmet from '@fastify/helmet';
import multipart from '@fastify/multipart';
import rateLimit from '@fastify/rate-limit';
import Fastify, { type FastifyBaseLogger, type FastifyInstance, LogController } from 'fastify';
import { serializerCompiler, validatorCompiler, type ZodTypeProvider } from 'fastify-type-provider-zod';
import type { Caller } from '../access/api-keys.js';
import type { TrustedProxies } from '../access/trusted-proxies.js';
import { newId } from '../ids.js';
import { registerCrossOrigin } from './plugins/cross-origin.js';
import { registerDraining } from './plugins/drain-requests.js';
import { answerHttpError, registerErrorReplies, sendError } from './plugins/error-replies.js';
import { registerMetrics } from './plugins/metrics.js';
import { registerOpenApi } from './plugins/openapi.js';
import { refuseUnstorable } from './plugins/refuse-unstorable.js';
import { registerBodyRules } from './plugins/request-bodies.js';
import { registerUnknownRoutes } from './plugins/unknown-routes.js';
import { adapterRoutes } from './routes/adapters.js';
import { fileRoutes } from './routes/files.js';
import { healthRoutes } from './routes/health.js';
import { jobEventRoutes } from './routes/job-events.js';
import { jobLedgerRoutes } from './routes/job-ledger.js';
import { jobRoutes } from './routes/jobs.js';
import { predictionRoutes } from './routes/predictions.js';
import { projectRoutes } from './routes/projects.js';
import { providerRoutes } from './routes/providers.js';
import type { Services } from './services.js';

declare module 'fastify' {
  interface FastifyRequest {
    caller: Caller;
  }
}

export interface AppOptions {
  version: string;
  logger: FastifyBaseLogger;
  maxUploadBytes: number;
  maxPredictBytes: number;
  rateLimitPerMinute: number;
  /** Whose pages may call the API from a browser. */
  corsOrigins: '*' | string[];
  trustedProxies: TrustedProxies;
}

export type App = FastifyInstance;

const JSON_BODY_BYTES = 1024 * 1024;

/** The id that a proxy of ours gave a request, under which its logs have it, too. */
function forwardedId({ headers, socket }: IncomingMessage, proxies: TrustedProxies): string | undefined {
  const id = headers['x-request-id'];
  return typeof id === 'string' && /^[\w.:-]{1,128}$/.test(id) && proxies.trusts(socket.remoteAddress) ? id : undefined;
}

/** The HTTP API. It holds no state of its own; everything it does is a call into `services`. */
export async function buildApp(services: Services, options: AppOptions): Promise<App> {
  const app = Fastify({
    loggerInstance: options.logger,
    genReqId: (request) => forwardedId(request, options.trustedProxies) ?? newId('req-'),
    requestIdHeader: false,
    trustProxy: (address) => options.trustedProxies.trusts(address),
    bodyLimit: JSON_BODY_BYTES,
    // One line per request, written below with what matters here.
    logController: new LogController({ disableRequestLogging: true }),
    routerOptions: { ignoreTrailingSlash: true, maxParamLength: 200 },
    // A shutdown awaits the requests in progress: predictions among them are paid for.
    forceCloseConnections: 'idle',
    frameworkErrors: sendError,
    clientErrorHandler: answerHttpError,
  }).withTypeProvider<ZodTypeProvider>();
  app.setValidatorCompiler(validatorCompiler);
  app.setSerializerCompiler(serializerCompiler);
  app.removeContentTypeParser('text/plain');
  registerErrorReplies(app);
  registerUnknownRoutes(app);
  registerDraining(app);

  await app.register(helmet, { contentSecurityPolicy: false });
  await registerCrossOrigin(app, options.corsOrigins);
  // After the headers that let a page read what these refuse.
  registerBodyRules(app);
  await app.register(multipart, {
    throwFileSizeLimit: true,
    // The data set store has the better error for a large upload, so it meets its limit first.
    limits: { fileSize: options.maxUploadBytes + JSON_BODY_BYTES, files: 256, fields: 32, parts: 300, fieldSize: 4096 },
  });
  await registerOpenApi(app, options.version);

  app.decorateRequest('caller');
  let closing = false;
  app.addHook('preClose', async () => {
    closing = true;
  });
  app.addHook('onSend', async (request, reply) => {
    reply.header('x-request-id', request.id);
    // A connection that a client keeps would hold the shutdown up for as long as it may idle.
    if (closing) reply.header('connection', 'close');
  });
  app.addHook('onResponse', async (request, reply) => {
    const { method, routeOptions } = request;
    const level = routeOptions.url === '/healthz' || routeOptions.url === '/readyz' ? 'debug' : 'info';
    request.log[level](
      { method, route: routeOptions.url, status: reply.statusCode, ms: Math.round(reply.elapsedTime) },
      'request',
    );
  });

  registerMetrics(app, services);
  await app.register(healthRoutes, { services });
  await app.register(
    async (v1) => {
      v1.addHook('onRequest', async (request) => {
        request.caller = await services.apiKeys.authenticate(request.headers.authorization, request.ip);
      });
      v1.addHook('preValidation', refuseUnstorable);
      await v1.register(rateLimit, {
        max: options.rateLimitPerMinute,
        timeWindow: '1 minute',
        keyGenerator: (request) => request.caller?.apiKeyId ?? request.ip,
      });
      await v1.register(fileRoutes, { services });
      await v1.register(providerRoutes, { services, maxPredictBytes: options.maxPredictBytes });
      await v1.register(jobRoutes, { services });
      await v1.register(jobEventRoutes, { services });
      await v1.register(jobLedgerRoutes, { services });
      await v1.register(projectRoutes, { services });
      await v1.register(adapterRoutes, { services });
      await v1.register(predictionRoutes, { services, maxPredictBytes: options.maxPredictBytes });
    },
    { prefix: '/v1' },
  );
  return app as unknown as App;
}
