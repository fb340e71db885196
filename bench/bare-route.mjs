// What a route costs at least: Fastify and pg as they come, one row selected by its key.
import { fileURLToPath } from 'node:url';
import { startOwnProcess } from './own-process.mjs';

export function startBareRoute(databaseUrl) {
  return startOwnProcess(fileURLToPath(import.meta.url), databaseUrl);
}

if (process.send && process.argv[1] === fileURLToPath(import.meta.url)) {
  const [{ default: Fastify }, { default: pg }] = await Promise.all([import('fastify'), import('pg')]);
  const pool = new pg.Pool({ connectionString: process.argv[2], max: 10 });
  const app = Fastify();
  app.get('/jobs/:id', async (request) => {
    const { rows } = await pool.query('SELECT * FROM jobs WHERE id = $1', [request.params.id]);
    return rows[0];
  });
  process.once('disconnect', async () => {
    await app.close();
    await pool.end();
  });
  process.send(await app.listen({ port: 0, host: '127.0.0.1' }));
}
