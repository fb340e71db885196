// What a hop costs at least: Fastify and undici as they come, which pass a request on as it is, each by itself, and keep no
// account of it.
import { fileURLToPath } from 'node:url';
import { startOwnProcess } from './own-process.mjs';

export function startBareProxy(origin) {
  return startOwnProcess(fileURLToPath(import.meta.url), origin);
}

if (process.send && process.argv[1] === fileURLToPath(import.meta.url)) {
  const [{ default: Fastify }, { Pool }] = await Promise.all([import('fastify'), import('undici')]);
  const pool = new Pool(process.argv[2], { connections: 64, pipelining: 1 });
  const app = Fastify({ bodyLimit: 64 * 1024 * 1024 });
  app.removeAllContentTypeParsers();
  app.addContentTypeParser('*', { parseAs: 'buffer' }, (_request, body, done) => done(null, body));
  app.post('/*', async ({ url, headers, body }, reply) => {
    const { host: _, connection: __, ...passed } = headers;
    const answer = await pool.request({ method: 'POST', path: url, headers: passed, body });
    reply.code(answer.statusCode).header('content-type', answer.headers['content-type']);
    return Buffer.from(await answer.body.arrayBuffer());
  });
  process.once('disconnect', async () => {
    await app.close();
    await pool.close();
  });
  process.send(await app.listen({ port: 0, host: '127.0.0.1' }));
}
