import { createServer } from 'node:net';
import pino from 'pino';
import { describe, expect, it } from 'vitest';
import { openDatabase } from '../../src/db/open-database.js';
import { emptyDatabase, query } from '../helpers/postgres.js';

const log = pino({ level: 'silent' });

function open(databaseUrl: string) {
  return openDatabase({ databaseUrl, dataDirectory: '/nonexistent', log });
}

describe('openDatabase with a DATABASE_URL', async () => {
  const connectionString = await emptyDatabase();

  it('brings the tables up to date and starts nothing of its own', async () => {
    const database = await open(connectionString);
    expect(database).toMatchObject({ connectionString, embedded: false });
    expect(await query(connectionString, 'SELECT * FROM jobs')).toEqual([]);
    await database.close();
  });

  it.each([
    [
      'a wrong password',
      (url: URL) => {
        url.password = 'hush-hush';
      },
      /refuses the user name or password/,
    ],
    [
      'an unknown database',
      (url: URL) => {
        url.pathname = 'nowhere';
      },
      /no database of that name/,
    ],
    [
      'a port where nothing listens',
      (url: URL) => {
        url.port = '1';
      },
      /nothing listens there/,
    ],
  ])('explains %s without showing credentials', async (_, change, message) => {
    const url = new URL(connectionString);
    change(url);
    const error: Error = await open(url.href).then(
      () => expect.fail('it was opened'),
      (reason) => reason,
    );
    expect(error.message).toMatch(message);
    expect(error.message).toMatch(/DATABASE_URL/);
    expect(error.message).not.toContain(url.password);
  });

  it('explains a server that is no Postgres', async () => {
    const server = createServer((socket) => socket.end('HTTP/1.1 400 Bad Request\r\n\r\n'));
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    const { port } = server.address() as { port: number };
    await expect(open(`postgresql://u:p@127.0.0.1:${port}/d`)).rejects.toThrow(/cannot be used/);
    server.close();
  });
});
