import type { FastifyInstance } from 'fastify';
import { MethodNotAllowedError, NotFoundError } from '../../errors.js';
import { errorBody } from './error-replies.js';

/**
 * Answers what no route does: 405 where the path has routes for other methods, which Allow names, and 404 elsewhere. To be
 * registered before the routes.
 */
export function registerUnknownRoutes(app: FastifyInstance): void {
  const paths = new Map<string, Set<string>>();
  app.addHook('onRoute', ({ url, method }) => {
    const methods = paths.get(url) ?? new Set();
    paths.set(url, methods);
    for (const one of [method].flat()) methods.add(one);
  });

  app.setNotFoundHandler((request, reply) => {
    const path = request.url.split('?')[0];
    const shown = path.slice(0, 200);
    const matching = [...paths].filter(([pattern]) => matches(pattern, path)).flatMap(([, methods]) => [...methods]);
    const allowed = [...new Set(matching)].join(', ');
    if (allowed === '') {
      const message = `There is no ${request.method} ${shown}. /docs lists what there is.`;
      return reply.code(404).send(errorBody(new NotFoundError({ code: 'route_not_found', message })));
    }
    reply.header('allow', allowed);
    if (request.method === 'OPTIONS') return reply.code(204).send();
    const message = `There is no ${request.method} ${shown}, only ${allowed}. /docs lists what there is.`;
    return reply.code(405).send(errorBody(new MethodNotAllowedError({ code: 'method_not_allowed', message })));
  });
}

/** Whether a route's path, with :parameters, is that of a request. */
function matches(pattern: string, path: string): boolean {
  const wanted = pattern.split('/');
  // As the router does: a slash at the end is nothing.
  const given = path.replace(/(?<=.)\/$/, '').split('/');
  return wanted.length === given.length && wanted.every((part, at) => part.startsWith(':') || part === given[at]);
}
