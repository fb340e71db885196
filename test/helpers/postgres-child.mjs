// A process that uses the embedded Postgres of the data directory in its first argument: says the connection string on
// standard output, and gives the server back when its standard input says anything.
import pino from 'pino';
import { openEmbeddedPostgres } from '../../dist/db/embedded-postgres.js';

const server = await openEmbeddedPostgres(process.argv[2], pino({ level: 'silent' }));
console.log(server.connectionString);
process.stdin.once('data', async () => {
  await server.close();
  process.exit(0);
});
