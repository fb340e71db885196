import type { FastifyInstance } from 'fastify';
import { UnsupportedMediaTypeError } from '../../errors.js';

/**
 * What is said of every body before a route reads it. No body is no body, whatever its Content-Type says: many clients
 * name one for all their requests. A compressed body is refused, rather than read as if it were none.
 */
export function registerBodyRules(app: FastifyInstance): void {
  app.addHook('onRequest', async ({ headers }, reply) => {
    requireUncompressed(headers['content-encoding'], () => reply.header('accept-encoding', 'identity'));
    const { 'content-length': length, 'transfer-encoding': chunked, 'content-type': type } = headers;
    if (chunked !== undefined || (length !== undefined && length !== '0')) return;
    // A form without a body has lost it, which its route says better.
    if (!type?.toLowerCase().startsWith('multipart/')) delete headers['content-type'];
  });

  const parseJson = app.getDefaultJsonParser('error', 'error');
  app.removeContentTypeParser('application/json');
  app.addContentTypeParser('application/json', { parseAs: 'string' }, (request, text, done) => {
    // Sent in chunks, of which there was none.
    if (text === '') done(null, undefined);
    else parseJson(request, text as string, done);
  });
}

function requireUncompressed(encoding: string | undefined, sayWhatIsTaken: () => void): void {
  if (encoding === undefined || encoding.trim().toLowerCase() === 'identity') return;
  sayWhatIsTaken();
  throw new UnsupportedMediaTypeError({
    code: 'unsupported_content_encoding',
    param: 'Content-Encoding',
    message: 'Bodies are taken uncompressed only. Send this one without Content-Encoding; a data set may be a ZIP.',
  });
}
